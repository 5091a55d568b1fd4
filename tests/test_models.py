"""Backbones, stems, heads and the package's door: what is built, what is refused, and what it costs to import."""

import subprocess
import sys
import textwrap

import pytest
import timm
import torch
from conftest import LargestTensor
from tiny import BUILDERS, small_model, views
from torch import nn
from transformers import AutoConfig, AutoModel

import hf_ssl
from hf_ssl import distributed, modeling
from hf_ssl import functional as F
from hf_ssl.backbone import backbone_arguments, compile_in_place, create_backbone, width
from hf_ssl.configuration import SSLConfig
from hf_ssl.errors import UsageError
from hf_ssl.heads import READ_ROWS, AdaptiveTemperature, HeadLinear, Predictor, Projector
from hf_ssl.repository import load_weights, publish_folder

NARROW = {"channels": [8, 16, 16, 32], "stem_width": 8}
BACKBONES = {  # name -> keyword arguments and the width of the representation; num_features is another for half
    "test_resnet": ({}, 96),
    "resnet10t": (NARROW, 32),
    "test_vit": ({}, 64),
    "test_convnext": ({}, 64),
    "test_efficientnet": ({}, 256),
    "mobilenetv3_small_050": ({}, 1024),
    "ghostnet_050": ({}, 1280),
    "test_maxvit": ({}, 128),  # has buffers that are not saved, and has to compute them again
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_any_timm_backbone_trains_and_reloads(backbone, tmp_path):
    arguments, columns = BACKBONES[backbone]
    model = small_model("mixed_barlow_twins", backbone=backbone, backbone_kwargs=arguments)
    assert width(model.backbone) == columns == model.projector[0].weight.shape[1]
    output = model(views())
    output.loss.backward()
    assert output.loss.isfinite()
    assert [path for path, p in model.named_parameters() if p.grad is None] == []
    model.eval().save_pretrained(tmp_path)
    reloaded = AutoModel.from_pretrained(tmp_path)
    torch.testing.assert_close(dict(reloaded.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    images = views(3, size=model.config.image_size)[:, 0]
    assert model.encode(images).shape == (3, columns)
    assert model.embed(images).shape == (1, 3, 8)
    torch.testing.assert_close(reloaded.encode(images), model.encode(images), rtol=1e-4, atol=1e-4)


def test_a_vgg_is_as_wide_as_what_it_returns():
    with torch.device("meta"):
        backbone = create_backbone(SSLConfig(backbone="vgg11"))
    assert backbone.num_features == 512 and width(backbone) == 4096


def test_keyword_arguments_reach_timm(monkeypatch):
    """JSON has no tuples, and some of timm's networks take nothing else."""
    asked = {}
    create_model = timm.create_model

    def record(name, **options):
        asked.update(options)
        return create_model(name, **options)

    monkeypatch.setattr(timm, "create_model", record)
    narrow = create_backbone(SSLConfig(backbone="resnet10t", backbone_kwargs=NARROW))
    assert width(narrow) == 32 and narrow.conv1[-1].out_channels == 16
    assert asked == {"pretrained": False, "num_classes": 0, "channels": (8, 16, 16, 32), "stem_width": 8}
    grey = SSLConfig(backbone="test_resnet", in_chans=1)
    assert create_backbone(grey)(torch.randn(2, 1, 32, 32)).shape == (2, 96)
    assert backbone_arguments(grey) == {"in_chans": 1}


def test_a_network_of_fixed_input_size_gets_the_size_of_the_views():
    model = small_model("barlow_twins", backbone="test_vit", image_size=48)
    assert backbone_arguments(model.config) == {"img_size": 48}
    assert model(views(size=48)).loss.isfinite()
    chosen = SSLConfig(backbone="test_vit", backbone_kwargs={"img_size": 64}, image_size=48)
    assert backbone_arguments(chosen) == {"img_size": 64}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet81"}, "timm has no model 'resnet81'. Did you mean 'resnet"),
        ({"backbone_kwargs": {"chanels": [1]}}, "resnet18 has no keyword argument 'chanels'"),
        ({"backbone_kwargs": {"num_classes": 10}}, "must not set 'num_classes'"),
        ({"backbone_kwargs": {"in_chans": 1}}, "use --in_chans"),
        ({"backbone_kwargs": {"block_args": 3}}, "timm cannot build resnet18"),
        ({"backbone": "test_convnext", "stem": "small"}, "test_convnext cannot have the stem 'small'.*ResNets"),
        ({"backbone": "vgg11_bn", "stem": "small_nopool"}, "use --stem imagenet"),
    ],
)
def test_a_backbone_that_cannot_be_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        create_backbone(SSLConfig(**settings))


def test_pretrained_weights_that_do_not_exist_are_refused():
    with pytest.raises(UsageError, match="no pretrained weights for 'resnet50t'"):
        create_backbone(SSLConfig(backbone="resnet50t"), pretrained=True)


def test_pretrained_weights_are_asked_for_once(monkeypatch, tmp_path):
    """Bug: opening a trained model downloads timm's weights again, only to write over them."""
    asked = []

    def create(config, *, pretrained):
        asked.append(pretrained)
        return create_backbone(config)

    monkeypatch.setattr(modeling, "create_backbone", create)
    small_model("barlow_twins", pretrained_backbone=True).save_pretrained(tmp_path)
    assert hf_ssl.AutoSSLModel.from_pretrained(tmp_path).config.pretrained_backbone is True
    assert asked == [True, False]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stem": "smal"}, "stem is one of 'imagenet', 'small', 'small_nopool', not 'smal'. Did you mean 'small'?"),
        ({"mix_target": "aa"}, "mix_target is one of 'ab', 'bb'"),
        ({"standardization": "whitened"}, "standardization is one of 'biased', 'unbiased'"),
        ({"projector_norm": "layer"}, "projector_norm is one of"),
        ({"num_heads": 0}, "num_heads must be at least 1, not 0"),
        ({"in_chans": 0}, "in_chans must be at least 1"),
        ({"image_size": -1}, "image_size must be at least 1"),
        ({"projector_dims": []}, "projector_dims needs a positive width"),
        ({"projector_dims": (16, 0)}, "projector_dims needs a positive width"),
        ({"mix_weight": -1.0}, "mix_weight must not be negative"),
        ({"mix_weight": float("nan")}, "mix_weight must be finite, but is nan"),
        ({"mix_weight": float("inf")}, "mix_weight must be finite, but is inf"),
        ({"beta": float("inf")}, "beta must be finite"),
        ({"redundancy_weight": float("inf")}, "redundancy_weight must be finite"),
        ({"temperature_range": (0.05, float("inf"))}, "temperature_range must be finite"),
        ({"redundancy_weight": -0.1}, "redundancy_weight must not be negative"),
        ({"image_mean": [0.5]}, "image_mean needs one number for each of the 3 channels, not 1"),
        ({"image_std": [0.5, 0.5, 0.0]}, "image_std must be positive"),
    ],
)
def test_settings_that_contradict_are_refused(settings, message):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        hf_ssl.BarlowTwinsConfig(**settings)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet10t"])
def test_small_stems_keep_the_resolution(name):
    arguments = NARROW if name == "resnet10t" else {}
    shapes, networks = {}, {}
    for stem in ("imagenet", "small", "small_nopool"):
        torch.manual_seed(0)
        networks[stem] = create_backbone(SSLConfig(backbone=name, backbone_kwargs=arguments, stem=stem)).eval()
        with torch.no_grad():
            shapes[stem] = networks[stem].forward_features(torch.randn(1, 3, 32, 32)).shape[-1]
    assert shapes == {"imagenet": 1, "small": 2, "small_nopool": 4}
    plain, small = (dict(networks[stem].state_dict()) for stem in ("imagenet", "small"))
    rest = {path: tensor for path, tensor in plain.items() if not path.startswith("conv1.weight")}
    torch.testing.assert_close({path: small[path] for path in rest}, rest, rtol=0, atol=0)
    if name != "resnet10t":
        assert repr(networks["small"].conv1) == repr(nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False))
        assert small["conv1.weight"].std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


def test_a_single_head_is_stored_as_a_plain_sequential():
    """Published projectors are a Sequential of Linear, BatchNorm1d and ReLU: same names, shapes and result."""
    torch.manual_seed(0)
    ours = Projector(10, (7, 6, 4))
    theirs = nn.Sequential(
        *[nn.Linear(10, 7, bias=False), nn.BatchNorm1d(7), nn.ReLU()],
        *[nn.Linear(7, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU()],
        nn.Linear(6, 4),
    )
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 10)
    torch.testing.assert_close(ours(x)[0], theirs(x), rtol=0, atol=0)


def test_heads_start_as_linear_layers_do():
    """Same draw as torch's Linear for one head, the same distribution for many."""
    torch.manual_seed(0)
    expected = nn.Linear(50, 40)
    torch.manual_seed(0)
    found = HeadLinear(1, 50, 40, bias=True, shared_input=True)
    torch.testing.assert_close(dict(found.state_dict()), dict(expected.state_dict()))
    many = HeadLinear(3, 50, 40, bias=True, shared_input=False)
    assert [p.ndim for p in many.parameters()] == [2, 1]  # biases must not decay
    for values in many.parameters():
        assert values.abs().max() <= 50**-0.5 < 1.1 * values.abs().max()
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert not torch.equal(values.chunk(3)[first], values.chunk(3)[second])


@pytest.mark.parametrize(
    ("options", "kinds", "biases"),
    [
        ({}, "Linear Norm ReLU Linear", [False, True]),
        ({"bias": False}, "Linear Norm ReLU Linear", [False, False]),
        ({"norm": "none"}, "Linear ReLU Linear", [True, True]),
        ({"last_norm": True}, "Linear Norm ReLU Linear Norm", [False, False]),
    ],
)
def test_the_projector_follows_its_settings(options, kinds, biases):
    projector = Projector(10, (7, 4), 2, **options)
    names = [type(layer).__name__.replace("Head", "").replace("BatchNorm1d", "Norm") for layer in projector]
    assert names == kinds.split()
    assert [layer.bias is not None for layer in projector if isinstance(layer, HeadLinear)] == biases
    if options.get("last_norm"):
        assert projector[-1].weight is None
        z = projector(torch.randn(30, 10))
        torch.testing.assert_close(z.mean(dim=1), torch.zeros(2, 4), rtol=0, atol=1e-5)


def test_a_predictor_reads_each_head_by_itself():
    predictor = Predictor(4, (6, 4), 3)
    z = torch.randn(3, 9, 4, requires_grad=True)
    predictor.eval()(z)[1].sum().backward()
    assert z.grad[1].abs().min() > 0 and z.grad[[0, 2]].abs().max() == 0


def test_the_drawn_mix_comes_from_torchs_generator():
    model = small_model("mixed_barlow_twins")
    torch.manual_seed(7)
    mix = F.draw_mix(6, 6, torch.default_generator)
    torch.manual_seed(7)
    torch.testing.assert_close(model(views()).loss, model(views(), mix).loss, rtol=0, atol=0)


def test_the_queue_and_the_slow_copy_move_after_the_step():
    """Bug: keys that are enqueued before they are compared, so that each is its own negative."""
    model = small_model("moco", momentum=0.75)
    output = model(views())
    before = model.queue.keys.clone()
    with torch.no_grad():
        for parameter in (*model.backbone.parameters(), *model.projector.parameters()):
            parameter.add_(1.0)
    model.after_step(output, progress=0.5)
    keys = nn.functional.normalize(output.embeddings[1][0], dim=-1)
    torch.testing.assert_close(model.queue.keys[..., :6], keys.mT)
    torch.testing.assert_close(model.queue.keys[..., 6:], before[..., 6:], rtol=0, atol=0)
    assert model.queue.position == 6
    for slow, fast in zip(model.momentum_encoder.projector.parameters(), model.projector.parameters(), strict=True):
        torch.testing.assert_close(slow, fast - 0.75)
    for _ in range(3):
        model.after_step(output, progress=0.5)
    assert model.queue.position == 0
    still = small_model("moco+cosine", momentum=0.5)
    still.after_step(still(views()), progress=1.0)
    weights = small_model("moco+cosine", momentum=0.5).momentum_encoder.projector[0].weight
    torch.testing.assert_close(still.momentum_encoder.projector[0].weight, weights, rtol=0, atol=0)


def test_too_few_keys_for_their_groups_are_refused():
    with pytest.raises(UsageError, match="6 keys cannot be parted into 4 groups"):
        small_model("moco", key_batch_norm_groups=4)(views())


def test_more_keys_than_the_queue_holds_are_refused():
    with pytest.raises(ValueError, match="25 keys do not fit a queue of 24"):
        small_model("moco").queue.enqueue(torch.ones(1, 25, 8))


def test_keys_pass_no_gradient_and_their_batch_statistics_are_split(tmp_path):
    """Bug: a query that recognises its key by the statistics of the batch they share."""
    model = small_model("moco", key_batch_norm_groups=2)
    images = views(8)[:, 0]
    every_other = [small_model("moco", key_batch_norm_groups=1).key(images[first::2]) for first in (0, 1)]
    torch.testing.assert_close(model.key(images), torch.stack(every_other, dim=2).flatten(1, 2))
    assert not model.key(images).requires_grad
    assert not any(parameter.requires_grad for parameter in model.momentum_encoder.parameters())
    model.save_pretrained(tmp_path)
    reloaded = hf_ssl.AutoSSLModel.from_pretrained(tmp_path)
    assert not any(parameter.requires_grad for parameter in reloaded.momentum_encoder.parameters())
    assert all(parameter.requires_grad for parameter in reloaded.backbone.parameters())


def test_keys_are_grouped_by_themselves_on_one_process_and_in_large_batches(monkeypatch):
    """Bug: a default that leaves all keys with the queries' own batch statistics, or splits small batches."""

    def keys(images, name="moco", **settings):
        return small_model(name, **settings).key(images)

    images = views(64)[:, 0]
    grouped, whole = (keys(images, key_batch_norm_groups=groups) for groups in (8, 1))
    assert not torch.allclose(grouped, whole)
    torch.testing.assert_close(keys(images), grouped)
    torch.testing.assert_close(keys(images, queue_length=0), whole)
    torch.testing.assert_close(keys(images[:32]), keys(images[:32], key_batch_norm_groups=1))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    torch.testing.assert_close(keys(images), whole)


def test_a_patch_projection_can_be_left_as_it_is(tmp_path):
    settings = {"backbone": "test_vit", "freeze_patch_projection": True}
    small_model("moco_v3", **settings).save_pretrained(tmp_path)
    for model in (small_model("moco_v3", **settings), hf_ssl.AutoSSLModel.from_pretrained(tmp_path)):
        assert not any(parameter.requires_grad for parameter in model.backbone.patch_embed.parameters())
        assert all(parameter.requires_grad for parameter in model.backbone.blocks.parameters())


def test_weights_of_another_method_reach_the_slow_copy_too(tmp_path):
    """Bug: keys made by a random network for the first thousands of steps."""
    source = small_model("barlow_twins", seed=3, image_mean=(0.5,) * 3, image_std=(0.5,) * 3)
    publish_folder(source, tmp_path, recipe={}, results=[])
    model = small_model("moco")
    load_weights(model, str(tmp_path))
    for network in (model.backbone, model.momentum_encoder.backbone):
        torch.testing.assert_close(dict(network.state_dict()), dict(source.backbone.state_dict()), rtol=0, atol=0)


def test_directions_are_not_joined():
    """Bug: directions concatenated along the batch, which makes each other's rows negatives."""
    model = small_model("moco_v3")
    output = model(views())
    (query_a, query_b), (key_b, key_a) = (side[:, 0] for side in output.embeddings)
    torch.testing.assert_close(output.loss.detach(), F.moco_v3(query_a, query_b, key_a, key_b, 0.2))
    model = small_model("simsiam")
    output = model(views())
    (prediction_a, prediction_b), (z_b, z_a) = (side[:, 0] for side in output.embeddings)
    torch.testing.assert_close(output.loss.detach(), F.simsiam(prediction_a, prediction_b, z_a, z_b))


def test_the_methods_are_their_functions():
    """Bug: an arrangement that pairs the wrong rows, or a temperature that does not arrive."""
    output = small_model("simclr", temperature=0.3)(views())
    z_a, z_b = (side[0, 0] for side in output.embeddings)
    torch.testing.assert_close(output.loss.detach(), F.nt_xent(z_a, z_b, 0.3))
    model = small_model("moco", temperature=0.3)
    output = model(views())
    query, key = (side[0, 0] for side in output.embeddings)
    torch.testing.assert_close(output.loss.detach(), F.moco(query, key, model.queue.keys[0], 0.3))


def of_simclr(model, view_a, view_b):
    return F.nt_xent(model.embed(view_a), model.embed(view_b), 0.3)


def of_moco(model, view_a, view_b):
    return F.moco(model.anchor(view_a), model.key(view_b), model.queue.keys, 0.3)


def of_moco_v3(model, view_a, view_b):
    return F.moco_v3(*(embed(view) for embed in (model.anchor, model.key) for view in (view_a, view_b)), 0.3)


def of_simsiam(model, view_a, view_b):
    z_a, z_b = model.embed(view_a), model.embed(view_b)
    return F.simsiam(model.predictor(z_a), model.predictor(z_b), z_a, z_b)


def of_barlow_twins(model, view_a, view_b):
    return F.barlow_twins(model.embed(view_a), model.embed(view_b), model.config.redundancy_weight)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("simclr", of_simclr),
        ("moco", of_moco),
        ("moco+cosine", of_moco),
        ("moco_v3", of_moco_v3),
        ("simsiam", of_simsiam),
        ("barlow_twins", of_barlow_twins),
    ],
)
def test_parameters_get_the_gradient_of_the_methods_function(name, function):
    """Bug: a gradient that flows into targets or keys, which changes no value of the loss and may let it collapse."""
    temperature = {} if name in ("simsiam", "barlow_twins") else {"temperature": 0.3}
    model = small_model(name, num_heads=2, **temperature).double()
    model.requires_grad_(True)  # the slow copy too: keys are constants because of how they are made
    batch = views().double()
    parameters = dict(model.named_parameters())
    expected, found = (
        dict(zip(parameters, torch.autograd.grad(cost, list(parameters.values()), allow_unused=True), strict=True))
        for cost in (function(model, *batch.unbind(dim=1)).sum(), model(batch).loss)
    )
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)
    constant = {path for path, gradient in found.items() if gradient is None}
    assert constant == {path for path in parameters if path.startswith("momentum_encoder.")}
    if not name.startswith(("simclr", "barlow")):
        assert not model.sides(*batch.unbind(dim=1))[1].requires_grad


@pytest.mark.parametrize("name", ["simclr+mix", "moco+mix", "moco_v3+mix", "simsiam+mix"])
def test_a_mix_is_taken_to_both_views_or_to_targets_that_stay(name):
    """Bug: a mix term that pulls targets towards the mix, or SimCLR's that knows one view only."""
    model = small_model(name)
    both = name == "simclr+mix"
    count = 2 if name.startswith(("moco_v3", "simsiam")) else 1
    anchors, targets = (torch.randn(count, 1, 6, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    z_mix = torch.randn(1, 6, 8, dtype=torch.float64, requires_grad=True)
    blend = torch.tensor(0.3), torch.randperm(6)
    found = model.mix(z_mix, anchors, targets, *blend)
    references = (anchors[0], targets[0]) if both else (targets[0].detach(),)
    second = anchors[1] if count == 2 else targets[0]
    expected = F.mix_similarity(z_mix, anchors[0], second, *blend, references)
    torch.testing.assert_close(found, expected)
    read = (z_mix, anchors, targets) if both else (z_mix, anchors)
    torch.testing.assert_close(
        *(torch.autograd.grad(cost.sum(), read, retain_graph=True) for cost in (found, expected))
    )
    if count == 2:  # view b's anchors stand for its share of the blend
        assert torch.autograd.grad(found.sum(), targets, allow_unused=True) == (None,)
    given = model.mix_references(anchors[0], targets[0])
    assert [reference.requires_grad for reference in given] == ([True, True] if both else [False])


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("amcl_simclr", lambda s, t, c: F.soft_contrast(s, t, c.beta, 8)),
        ("amcl_moco", lambda s, t, c: F.soft_contrast(s, t, c.beta, 8)),
        ("moco_v3+temperature", lambda s, t, c: 2 * F.soft_contrast(s, t, c.beta, 8)),
        ("simsiam+amcl", lambda s, t, c: F.soft_agreement(s.positive, t.positive, c.beta)),
        ("simsiam+amcl hard", lambda s, t, c: F.hard_agreement(s.positive, t.positive, c.beta, 8)),
        ("amcl_barlow_twins", lambda s, t, c: F.soft_redundancy_reduction(s, t, c.redundancy_weight, c.beta)),
        ("simclr+amcl hard", lambda s, t, c: F.hard_contrast(s, t, c.beta, 8, c.amcl_top_k)),
        ("moco+amcl hard", lambda s, t, c: F.hard_contrast(s, t, c.beta, 8, c.amcl_top_k)),
        ("barlow_twins+amcl hard", lambda s, t, c: F.hard_redundancy_reduction(s, t, c.redundancy_weight, c.beta, 8)),
    ],
)
def test_learned_temperatures_reach_their_objective_with_its_settings(name, function):
    """Bug: beta, the width or the number of negatives that the objective takes from elsewhere than the settings."""
    model = small_model(name, beta=0.3, amcl_top_k=2)
    anchors, targets = (torch.randn(1, 3, 6, 8) for _ in range(2))
    scores = model.arrange(model.items(anchors), model.items(targets), model.bank)
    heads = model.config.num_heads
    sides = anchors[:, :heads], targets[:, :heads]
    scores = F.PairScores(*(score[:, :heads] for score in scores))
    expected = function(scores, model.temperature(model, *sides), model.config)
    torch.testing.assert_close(model.compare(*sides), expected.mean(dim=0))


@pytest.mark.parametrize(
    ("name", "positive", "negative"),
    [
        ("amcl_simclr", (1, 3, 12), (1, 3, 12, 10)),
        ("amcl_moco", (1, 3, 6), (1, 3, 6, 24)),
        ("amcl_barlow_twins", (1, 3, 8), (1, 3, 8, 7)),
    ],
)
def test_a_learned_temperature_has_the_shape_of_the_scores(name, positive, negative):
    model = small_model(name)
    anchors, targets = (torch.randn(1, 3, 6, 8) for _ in range(2))
    temperature = model.temperature(model, anchors, targets)
    assert temperature.positive.shape == positive and temperature.negative.shape == negative
    assert not model.temperature.is_constant
    low, high = model.config.temperature_range
    assert all(bool(((low < tau) & (tau < high)).all()) for tau in temperature)


@pytest.mark.parametrize("name", ["amcl_simclr", "amcl_moco", "moco_v3+amcl+mix", "amcl_barlow_twins"])
def test_a_detached_temperature_does_not_move_the_embeddings(name):
    """Bug: one side that is not detached."""
    gradients = []
    for detach in (False, True):
        model = small_model(name, detach_temperature=detach)
        sides = [torch.randn(1, 3, 6, 8, requires_grad=True) for _ in range(2)]
        torch.cat([tau.flatten() for tau in model.temperature(model, *sides)]).sum().backward()
        gradients.append([side.grad for side in sides])
        assert model.temperature.phi[0].weight.grad is not None
    assert None not in gradients[0] and gradients[1] == [None, None]


def test_the_queue_passes_the_perceptron_like_the_queries():
    """Bug: temperatures from products of what the perceptron gives with keys that it never saw."""
    model = small_model("amcl_moco")
    low, high = model.config.temperature_range
    query, key = (torch.randn(1, 3, 6, 8) for _ in range(2))
    temperature = model.temperature(model, query, key)
    phi, queue = model.temperature.phi, model.queue.keys.mT
    rows = phi(F.normalize(query))
    for found, products in (
        (temperature.positive, (rows * phi(F.normalize(key))).sum(dim=-1)),
        (temperature.negative, rows @ phi(queue).mT),
    ):
        torch.testing.assert_close(found, low + (high - low) / (1 + products.exp()))


def test_readings_say_where_in_their_range_temperatures_are(monkeypatch):
    temperature = AdaptiveTemperature(4, 4, 1.0, 3.0)
    pairs = F.PairScores(torch.tensor([1.001, 1.53, 2.05]), torch.tensor([[2.999, 2.05], [1.03, 2.97], [2.05, 1.53]]))
    monkeypatch.setattr(temperature, "forward", lambda *_: pairs)
    rows = torch.zeros(1, 1, 3, 4)
    readings = temperature.readings(None, rows, rows)
    histogram = [0] * 20
    histogram[0], histogram[5], histogram[10], histogram[19] = 2, 2, 3, 2  # bars of 0.1
    assert readings["temperature_histogram"] == histogram
    assert readings["temperature_at_bound"] == pytest.approx(2 / 9)
    assert readings["temperature_mean"] == pytest.approx((1.001 + 2 * 1.53 + 3 * 2.05 + 2.999 + 1.03 + 2.97) / 9)
    pairs = F.PairScores(torch.tensor([1.0, 3.0, 3.0]), torch.empty(3, 0))  # rounded to the bounds; no negatives
    readings = temperature.readings(None, rows, rows)
    assert readings["temperature_at_bound"] == 1.0
    assert readings["temperature_histogram"] == [1, *[0] * 18, 2]
    pairs = F.PairScores(torch.full((3,), torch.nan), torch.full((3, 2), 2.0))
    readings = temperature.readings(None, rows, rows)  # the loss is no number either, and that is what is to be said
    assert sum(readings["temperature_histogram"]) == 6
    pairs = F.PairScores(torch.full((50,), 2.0), torch.full((5, 10), 2.0))
    with LargestTensor() as largest:
        temperature.readings(None, rows, rows)
    assert largest.entries == 50  # never all temperatures in one copy


def test_a_reading_costs_the_same_for_any_batch():
    model = small_model("amcl_simclr")
    sides = [torch.randn(1, 3, READ_ROWS + 5, 8) for _ in range(2)]
    with LargestTensor() as largest:
        readings = model.temperature.readings(model, *sides)
    assert largest.entries == 3 * (2 * READ_ROWS) ** 2
    assert sum(readings["temperature_histogram"]) == 3 * 2 * READ_ROWS * (2 * READ_ROWS - 1)
    first = [side[..., :READ_ROWS, :] for side in sides]
    assert readings == model.temperature.readings(model, *first)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("simclr", {"temperature": 0.0}, "positive"),
        ("simclr", {"temperature": float("inf")}, "temperature must be finite, but is inf"),
        ("simclr", {"temperature": None}, "needs a number where none is learned"),
        ("amcl_simclr", {"temperature": None, "temperature_range": None}, "needs a number where none is learned"),
        ("moco", {"temperature": None}, "needs a number where none is learned"),
        ("amcl_simclr", {"temperature_range": (1.0, 0.1)}, "rising"),
        ("moco", {"queue_length": -1}, "queue_length"),
        ("moco", {"momentum": 1.5}, "momentum"),
        ("moco_v3", {"amcl_objective": "hard", "num_heads": 2, "temperature_range": (0.1, 1.0)}, "needs a queue"),
        ("amcl_simclr", {"amcl_objective": "sof"}, "Did you mean 'soft'"),
        ("moco_v3", {"predictor_dims": (16, 4)}, "end in 8"),
        ("simsiam", {"temperature": 0.1}, "no constant temperature"),
        ("moco", {"key_batch_norm_groups": 0}, "at least 1"),
        ("moco", {"freeze_patch_projection": True}, "projects no patches"),
    ],
)
def test_settings_of_a_method_that_contradict_are_refused(name, settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        small_model(name, **settings)


@pytest.mark.parametrize("name", ["mixed_barlow_twins", "moco+amcl+mix"])
def test_the_forward_pass_compiles_in_one_piece(name):
    """Bug: a Python branch on a tensor's value, which waits for the device at every step."""
    model = small_model(name)
    mix = F.draw_mix(6, 6, torch.Generator().manual_seed(0))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(views(), mix).loss, model(views(), mix).loss)
    torch._dynamo.reset()


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no model that can be opened"):
        hf_ssl.AutoSSLModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "never_heard_of"}')
    with pytest.raises(UsageError, match="never_heard_of"):
        hf_ssl.AutoSSLModel.from_pretrained(tmp_path)
    timm_model = AutoModel.from_config(AutoConfig.for_model("timm_wrapper", architecture="test_resnet"))
    timm_model.save_pretrained(tmp_path / "backbone")
    with pytest.raises(UsageError, match="no pretraining"):
        hf_ssl.AutoSSLModel.from_pretrained(tmp_path / "backbone")


def test_public_names_are_there():
    for name in hf_ssl.__all__:
        if name != "load_features":
            assert getattr(hf_ssl, name) is not None
    assert sorted(hf_ssl.__all__) == sorted(dir(hf_ssl))
    for method in hf_ssl.METHODS.values():
        assert {method.__name__, method.config_class.__name__} <= set(hf_ssl.__all__)
    assert [method.config_class.model_type for method in hf_ssl.METHODS.values()] == list(hf_ssl.METHODS)
    assert set(hf_ssl.METHODS) <= set(hf_ssl.registration.MODEL_TYPES)
    with pytest.raises(AttributeError, match="no attribute 'SimClear'"):
        hf_ssl.SimClear  # noqa: B018


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_imports_no_library():
    """Bug: an import at the top of the package that makes `import hf_ssl` and `hf-ssl --help` take seconds."""
    loaded = run("import sys, hf_ssl; print([n for n in ('torch', 'timm', 'transformers') if n in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("first", ["import hf_ssl", "from transformers import AutoConfig, AutoModel"])
def test_plain_auto_classes_know_our_models(first, tmp_path):
    """Bug: a registration that only works in one order of imports, or only once the methods were imported."""
    small_model("mixed_barlow_twins").save_pretrained(tmp_path)
    printed = run(f"""
        {first}
        import hf_ssl, sys
        from transformers import AutoConfig, AutoModel
        assert "hf_ssl.methods" not in sys.modules
        config = AutoConfig.from_pretrained({str(tmp_path)!r})
        made = AutoConfig.for_model("barlow_twins", num_heads=2)
        print(type(config) is hf_ssl.MixedBarlowTwinsConfig, type(made) is hf_ssl.BarlowTwinsConfig, made.num_heads)
        print(type(AutoModel.from_pretrained({str(tmp_path)!r})) is hf_ssl.MixedBarlowTwinsModel)
    """)
    assert printed.split() == ["True", "True", "2", "True"]


def test_every_door_of_the_base_class_was_tried():
    overridden = {name for model, _ in BUILDERS.values() for kind in model.__mro__[:3] for name in vars(kind)}
    doors = "build bank sides anchor items learned_items arrange objective fast mix after_step constant_temperature"
    assert set(doors.split()) <= overridden


def test_whatever_runs_is_compiled(monkeypatch):
    """Bug: `--compile` that leaves MoCo's slow copy, a quarter of the work, as it is."""
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    model = small_model("moco")
    compile_in_place(model)
    assert compiled == [model.backbone, model.momentum_encoder.backbone]
