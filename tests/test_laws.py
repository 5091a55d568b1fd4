"""Laws that hold for every method, whatever its numbers are; each names the bug it exists for.

A method added to METHODS is held to all of them before its author writes a test, and so are the combinations of base,
heads, temperature and mix in tiny.py.
"""

import json

import pytest
import timm
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from tiny import BUILDERS, collapsed, small_model, views
from transformers import AutoModel

import hf_ssl
from hf_ssl import functional as F
from hf_ssl.configuration import option_fields
from hf_ssl.errors import HfSslError, UsageError
from hf_ssl.heads import HeadLinear, Projector
from hf_ssl.methods import METHODS

EVERY = sorted(BUILDERS)
MIXING = [name for name in EVERY if "mix" in name]
FAST = ["barlow_twins", "mixed_barlow_twins", "simclr", "simclr+heads", "amcl_simclr", "simclr+amcl+mix"]
BARLOW_TWINS = ["barlow_twins", "mixed_barlow_twins"]


def a_mix(rows: int = 6, alpha: float = 0.3, scale: float = 1.0) -> F.Mix:
    permutation = torch.randperm(rows, generator=torch.Generator().manual_seed(5))
    return F.Mix(torch.tensor(alpha), permutation, torch.tensor(scale))


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def embeddings(model: hf_ssl.SSLModel, rows: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Correlated anchors and targets (1, C, rows, D)."""
    generator = torch.Generator().manual_seed(3)
    shape = (1, model.config.num_heads, rows, model.config.projector_dims[-1])
    first = torch.randn(shape, generator=generator, dtype=dtype)
    second = first + 0.5 * torch.randn(shape, generator=generator, dtype=dtype)
    return [first.requires_grad_(), second.requires_grad_()]


@pytest.mark.parametrize("name", EVERY)
def test_every_trainable_parameter_gets_a_gradient(name):
    """Bug: a part that is built and saved but bypassed, or a detach on the online branch (DDP then hangs or fails)."""
    model = small_model(name)
    model(views()).loss.backward()
    assert [path for path, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("name", EVERY)
def test_forward_changes_nothing_but_batch_statistics(name):
    """Bug: a queue or momentum encoder that moves in forward, so that an evaluation or a second pass moves it too."""
    model = small_model(name)
    before = state(model)
    model(views())
    after = model.state_dict()
    changed = {path for path, tensor in before.items() if not torch.equal(tensor, after[path])}
    assert {path.rsplit(".", 1)[1] for path in changed} == {"running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize("name", EVERY)
def test_the_backbone_starts_as_timm_made_it(name):
    """Bug: transformers' default `_init_weights`, which draws every layer anew from N(0, 0.02)."""
    model = small_model(name)
    torch.manual_seed(0)
    expected = timm.create_model("test_resnet", num_classes=0).state_dict()
    torch.testing.assert_close(dict(model.backbone.state_dict()), dict(expected), rtol=0, atol=0)


@pytest.mark.parametrize("name", EVERY)
def test_a_reloaded_model_is_the_model(name, tmp_path):
    """Bug: a buffer that is not saved (a queue of noise after a resume), or weights under names that do not load."""
    model = small_model(name)
    model(views(seed=1))  # so that running statistics are not at their defaults
    model.after_step(model(views(seed=2)), progress=0.5)
    model.eval().save_pretrained(tmp_path)
    for reloaded in (AutoModel.from_pretrained(tmp_path), hf_ssl.AutoSSLModel.from_pretrained(tmp_path)):
        assert type(reloaded) is type(model) and not reloaded.training
        torch.testing.assert_close(state(reloaded), state(model), rtol=0, atol=0)
        torch.testing.assert_close(reloaded(views()).loss, model(views()).loss)


@pytest.mark.parametrize("name", EVERY)
def test_every_buffer_is_saved(name):
    """Bug: `persistent=False`; loading builds on the meta device, so such a buffer comes back as noise."""
    model = small_model(name)
    saved = set(model.state_dict())
    assert [path for path, _ in model.named_buffers() if path not in saved] == []


@pytest.mark.parametrize("rows", [5, 12])
@pytest.mark.parametrize("name", FAST)
def test_the_fast_form_is_the_definition(name, rows):
    """Bug: a cheap form that forgets a setting or is exact on one side of B = D only (D is 8)."""
    model = small_model(name).double()
    results = []
    for fast in (model.fast, lambda z_a, z_b: None):
        model.fast = fast
        sides = embeddings(model, rows)
        cost = model.compare(*sides)
        results.append([cost, *torch.autograd.grad(cost.sum(), [*sides, *model.temperature.parameters()])])
    assert results[0][0].grad_fn is not None
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_equal_heads_cost_as_much_as_they_are_many(name):
    """Bug: heads averaged in place of summed, or a BatchNorm or product that mixes heads with each other."""
    one, three = small_model(name, num_heads=1), small_model(name, num_heads=3)
    copies = {}
    for path, tensor in one.state_dict().items():
        heads = 3 if three.state_dict()[path].shape != tensor.shape else 1
        copies[path] = tensor.repeat(heads, *[1] * (tensor.ndim - 1)) if heads > 1 else tensor
    three.load_state_dict(copies)
    first, second = one(views(), a_mix()), three(views(), a_mix())
    assert first.terms.keys() == second.terms.keys()
    torch.testing.assert_close(second.loss, 3 * first.loss)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_each_head_is_a_projector_of_its_own(norm):
    """Bug: heads that share their draw (three times the same head), or that swap rows, or normalise together."""
    torch.manual_seed(0)
    projector = Projector(10, (7, 6, 4), 3, norm=norm)
    x = torch.randn(9, 10)
    together = projector(x)
    assert together.shape == (3, 9, 4)
    for head in range(3):
        alone = Projector(10, (7, 6, 4), 1, norm=norm)
        alone.load_state_dict(
            {path: tensor.chunk(3)[head] if tensor.ndim else tensor for path, tensor in projector.state_dict().items()}
        )
        torch.testing.assert_close(alone(x)[0], together[head])
        assert not torch.allclose(together[head], together[head - 1])


@pytest.mark.parametrize("name", MIXING)
def test_a_mix_of_one_source_costs_nothing(name):
    """Bug: alpha given to the wrong view, the permutation inverted, or the wrong target on one side."""
    model = small_model(name, num_heads=2).double()
    batch, mix = views().double(), a_mix()
    identity = F.Mix(torch.tensor(1.0), torch.arange(6), torch.tensor(1.0))
    scrambled = mix._replace(alpha=torch.tensor(0.0))  # the mixed view is view b in another order
    for free in (identity, scrambled):
        assert model(batch, free).terms["mix"] < 1e-12 < 1e-3 < model(batch, mix).terms["mix"]


@pytest.mark.parametrize("name", MIXING)
def test_without_mixing_a_method_is_its_base(name):
    """Bug: a mixed pass that changes the method's own term, or a weight or warm-up that scales it as well."""
    mixed = small_model(name)
    plain = small_model(name, mix_weight=0.0)
    base = plain(views(), a_mix())
    assert list(base.terms) == ["objective"]
    weight = mixed.config.mix_weight
    full, half = mixed(views(), a_mix()), mixed(views(), a_mix(scale=0.5))
    for output in (full, half):
        torch.testing.assert_close(output.terms["objective"], base.loss.detach(), rtol=0, atol=0)
    torch.testing.assert_close(half.terms["mix"] * 2, full.terms["mix"])
    torch.testing.assert_close(full.loss.detach(), full.terms["objective"] + full.terms["mix"])
    mixed.config.mix_weight = 2.0 * weight
    torch.testing.assert_close(mixed(views(), a_mix()).terms["mix"], 2 * full.terms["mix"])
    assert list(mixed.eval()(views(), a_mix()).terms) == ["objective"]


@pytest.mark.parametrize("name", BARLOW_TWINS)
def test_the_mix_term_is_measured_in_redundancy_weight(name):
    """Bug: a mix term whose weight does not follow lambda, as the tables of the paper assume it does."""
    costs = []
    for weight in (0.01, 0.03):
        model = small_model(name, redundancy_weight=weight, mix_weight=4.0)
        costs.append(model(views(), a_mix()).terms["mix"])
    torch.testing.assert_close(costs[1], 3 * costs[0])


@pytest.mark.parametrize("name", EVERY)
def test_autocast_changes_no_bit_of_an_objective(name):
    """Bug: products of float32 embeddings done in bfloat16 under autocast (InfoNCE was 57 % off)."""
    model = small_model(name)
    anchors, targets = embeddings(model, 6, torch.float32)
    fixed = torch.stack([anchors[0].detach(), targets[0].detach()])
    model.sides = lambda view_a, view_b: (anchors, targets)
    model.anchor = lambda images: fixed.mean(dim=0)
    for fast in (model.fast, lambda z_a, z_b: None):
        model.fast = fast
        expected = model(views(), a_mix())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(views(), a_mix())
        torch.testing.assert_close(found.loss, expected.loss, rtol=0, atol=0)
        torch.testing.assert_close(found.terms, expected.terms, rtol=0, atol=0)


@pytest.mark.parametrize("name", EVERY)
def test_under_autocast_embeddings_are_compared_in_float32(name):
    """Bug: objectives on bfloat16 embeddings, whose sums over a batch lose what training has to see."""
    model = small_model(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(views())
    assert {output.loss.dtype, *(z.dtype for z in output.embeddings)} == {torch.float32}
    assert model.encode(views()[:, 0]).dtype == torch.float32


@pytest.mark.parametrize("name", EVERY)
def test_float64_goes_through_untouched(name):
    """Bug: a `.float()` on the way, which no test of equality in float64 would survive."""
    model = small_model(name).double()
    nudge = 1e-9 * views(seed=9).double()  # nothing, in float32
    losses = []
    for times in (0, 1, 2):
        output = model(views().double() + times * nudge, a_mix())
        assert {output.loss.dtype, *(z.dtype for z in output.embeddings)} == {torch.float64}
        losses.append(output.loss.detach())
    torch.testing.assert_close(losses[2] - losses[1], losses[1] - losses[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", BARLOW_TWINS)
def test_barlow_twins_is_symmetric_in_its_views(name):
    """Bug: a predictor, a stop-gradient or a momentum encoder on one side."""
    model = small_model(name, num_heads=2)
    mirrored = views().flip(1)
    torch.testing.assert_close(model(views(), a_mix()).terms["objective"], model(mirrored, a_mix()).terms["objective"])
    gradients = []
    for batch in (views(), mirrored):
        loss = model(batch, a_mix()).loss if model.config.mix_weight == 0 else model.eval()(batch).loss
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    torch.testing.assert_close(gradients[0], gradients[1])
    assert model.bank is None


@pytest.mark.parametrize("name", [name for name in EVERY if collapsed(name, 6) is not None])
def test_a_collapsed_batch_costs_what_the_formula_says(name):
    """Bug: a constant embedding that gives NaN (0 / 0 in standardising), or a cost that rewards it."""
    model = small_model(name, num_heads=2)
    with torch.no_grad():
        for part in (model.projector, getattr(model, "predictor", ())):
            for last in [layer for layer in part if isinstance(layer, HeadLinear)][-1:]:
                last.weight.zero_()
        model.restart_target()
        if model.bank is not None:  # a queue of nothing but the constant
            model.queue.keys.copy_(F.normalize(model.key(views()[:, 1]))[:, :1].mT)
    output = model(views(), a_mix())
    each = collapsed(name, 6)
    torch.testing.assert_close(output.terms["objective"], torch.tensor(2 * each))
    assert output.terms.get("mix", 0.0) < 1e-10


@pytest.mark.parametrize("name", EVERY)
def test_the_output_is_detached_and_adds_up(name):
    """Bug: terms or embeddings that keep the graph, and with it the memory of every logged step, alive."""
    model = small_model(name)
    output = model(views())
    torch.testing.assert_close(output.loss.detach(), torch.stack(list(output.terms.values())).sum())
    assert output.loss.requires_grad
    assert not any(tensor.requires_grad for tensor in (*output.terms.values(), *output.embeddings))
    directions = 2 if name.startswith(("moco_v3", "simsiam")) else 1
    assert {tuple(z.shape) for z in output.embeddings} == {(directions, model.config.num_heads, 6, 8)}


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_of_one_is_refused(name):
    """Bug: a division by B - 1 = 0 that trains on NaN."""
    with pytest.raises(UsageError, match="one image"):
        small_model(name, projector_norm="none")(views(1))


@pytest.mark.parametrize("name", EVERY)
def test_a_backbone_without_batch_norm_trains(name):
    """Bug: a path that assumes running statistics, or a feature map where a ViT gives tokens."""
    model = small_model(name, backbone="test_vit", projector_norm="none", projector_last_norm=False)
    assert not any("running" in path for path in model.state_dict())
    output = model(views())
    output.loss.backward()
    assert output.loss.isfinite() and all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", EVERY)
def test_a_configuration_survives_json(name):
    """Bug: tuples that come back as lists and are refused, or a default that is written over a chosen value."""
    own = {"backbone_kwargs": {"channels": (8, 8, 16, 16)}, "image_mean": (0.1, 0.2, 0.3), "image_std": (1, 2, 3.5)}
    config = small_model(name, **own).config
    again = type(config).from_dict(json.loads(config.to_json_string()))
    assert json.loads(again.to_json_string()) == json.loads(config.to_json_string())
    assert again.backbone_kwargs == {"channels": [8, 8, 16, 16]} and again.image_mean == [0.1, 0.2, 0.3]
    torch.manual_seed(0)
    rebuilt = BUILDERS[name][0](again)
    torch.testing.assert_close(state(rebuilt), state(small_model(name, **own)), rtol=0, atol=0)


@pytest.mark.parametrize("name", EVERY)
def test_a_value_of_the_wrong_type_is_refused(name):
    """Bug: a config class without `@strict`, which takes "three" for a number of heads and fails much later."""
    config_class = BUILDERS[name][0].config_class
    for field in option_fields(config_class):
        for value in (object(), [1, "three"]):
            with pytest.raises(StrictDataclassFieldValidationError, match=field):
                config_class(**{field: value})


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_option_says_what_it_means(name):
    """Bug: an option whose help is empty, and transformers' own fields offered as settings of a method."""
    options = option_fields(METHODS[name].config_class)
    assert "num_heads" in options and not {"dtype", "architectures", "id2label"} & set(options)
    config = METHODS[name].config_class()
    for field, option in options.items():
        assert option.default == getattr(config, field)
        assert f"(default: {option.default})" in option.help and len(option.help) > 30


@pytest.mark.parametrize("name", EVERY)
def test_a_checkpoint_with_other_weights_is_refused(name, tmp_path):
    """Bug: missing weights that transformers only warns of, so that training goes on from noise."""
    for biased, reason in ((False, "missing_keys"), (True, "unexpected_keys")):
        small_model(name, projector_bias=biased, projector_last_norm=False).save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"projector_bias": not biased}))
        with pytest.raises(HfSslError, match=f"{reason} .*'projector.3.bias'"):
            AutoModel.from_pretrained(tmp_path)
