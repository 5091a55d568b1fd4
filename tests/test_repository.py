"""What is published loads in a process that has never heard of hf_ssl, and nothing half-written is ever seen."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from copy import deepcopy

import pytest
import timm
import torch
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny import small_model
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

from hf_ssl.auto import AutoSSLModel
from hf_ssl.errors import HfSslError, UsageError
from hf_ssl.repository import load_weights, open_model, publish_folder, published_config, publishing, refresh_card
from hf_ssl.small_stem import SmallStemConfig, SmallStemModel, adapt_stem

NORM = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
RECIPE = {"method": "mixed_barlow_twins", "dataset": "photos", "learning_rate": 1e-3, "projector_dims": (16, 8)}
MODELS = {
    "plain": {"backbone": "resnet10t", "backbone_kwargs": {"channels": [8, 16, 16, 32], "stem_width": 8}},
    "small": {"backbone": "resnet10t", "backbone_kwargs": {"channels": [8, 16, 16, 32]}, "stem": "small_nopool"},
    "small_wide": {"backbone": "test_resnet", "stem": "small"},
    "vit": {"backbone": "test_vit", "image_size": 64},
    "wider_head": {"backbone": "mobilenetv3_small_050", "image_size": 64},
    "grey": {"backbone": "test_resnet", "in_chans": 1, "image_mean": [0.4], "image_std": [0.2]},
}
RESULTS = [
    {
        "protocol": "knn",
        "metric": "top1",
        "value": 0.831,
        "low": 0.82,
        "high": 0.84,
        "dataset": "photos",
        "dataset_fingerprint": "0123",
        "split": "test",
        "settings": {"k": 20, "temperature": 0.07},
        "seed": 0,
        "command": "hf-ssl evaluate run",
        "versions": {},
    }
]


def trained(name, seed=0, method="mixed_barlow_twins"):
    """A model whose running statistics have moved, in eval mode."""
    model = small_model(method, seed=seed, **{**NORM, **MODELS[name]})
    with torch.no_grad():
        model.encode(3 * torch.rand(8, *images_of(model).shape[1:]))
    return model.eval()


def images_of(model):
    size, channels = model.config.image_size, model.config.in_chans
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(7))


def same(module, state):
    own = module.state_dict()
    return own.keys() == state.keys() and all(torch.equal(value, own[name]) for name, value in state.items())


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Every kind of repository: name -> (folder, model)."""
    root = tmp_path_factory.mktemp("published")
    made = {}
    for name in MODELS:
        model = trained(name)
        publish_folder(model, root / name, recipe=RECIPE, results=RESULTS)
        images = images_of(model)
        features = model.encode(images).detach().contiguous()
        save_file({"images": images, "features": features}, root / f"{name}.safetensors")
        made[name] = (root / name, model)
    return made


STRANGER = """
    import json, sys
    class NotHere:
        def find_spec(self, name, *rest):
            if name.split(".")[0] == "hf_ssl":
                raise ImportError("hf_ssl is not installed here")
    sys.meta_path.insert(0, NotHere())

    import timm, torch
    from PIL import Image
    from safetensors.torch import load_file
    from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, pipeline

    root, names, trust = sys.argv[1], sys.argv[2].split(","), sys.argv[3] == "trust"
    more = {"trust_remote_code": True} if trust else {}
    for name in names:
        folder = f"{root}/{name}"
        expected = load_file(f"{folder}.safetensors")
        images, features = expected["images"], expected["features"]
        channels, size = images.shape[1:3]
        with torch.no_grad():
            plain = AutoModel.from_pretrained(folder, **more).eval()
            torch.testing.assert_close(plain(images).pooler_output, features, rtol=0, atol=1e-5)
            if not trust:
                ours = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
                torch.testing.assert_close(ours(images), features, rtol=0, atol=1e-5)
        picture = Image.new("L", (2 * size, size + 9), 77).convert("RGB" if channels == 3 else "L")
        processor = AutoImageProcessor.from_pretrained(folder, **more)
        pixels = processor(picture)["pixel_values"]
        assert pixels.shape == (1, channels, size, size)
        described = json.load(open(f"{folder}/config.json"))["pretrained_cfg"]
        for channel, mean, std in zip(pixels[0], described["mean"], described["std"]):
            torch.testing.assert_close(channel, torch.full_like(channel, (77 / 255 - mean) / std))
        if channels == 3:  # transformers' pipeline turns every picture into RGB
            extract = pipeline("image-feature-extraction", model=folder, pool=True, **more)
            with torch.no_grad():
                direct = plain(pixels).pooler_output
            torch.testing.assert_close(torch.tensor(extract(picture)), direct, rtol=0, atol=1e-5)
        tuned, told = AutoModelForImageClassification.from_pretrained(
            folder, num_labels=5, output_loading_info=True, **more
        )
        assert tuned(images).logits.shape == (len(images), 5)
        assert all(".fc." in key or "head" in key or "classifier" in key for key in told["missing_keys"]), told
        assert not told["unexpected_keys"] and not told["mismatched_keys"]
    assert "hf_ssl" not in sys.modules
    print("all of it")
"""


def run_stranger(root, names, trust, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STRANGER), str(root), ",".join(names), trust],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_plain_libraries_load_it_without_hf_ssl_and_give_the_models_features(published, tmp_path):
    root = published["plain"][0].parent
    done = run_stranger(root, ["plain", "vit", "wider_head", "grey"], "plain", tmp_path)
    assert done.stdout.endswith("all of it\n"), done.stderr[-3000:]


def test_a_stem_of_our_own_loads_without_hf_ssl_only_where_its_code_is_trusted(published, tmp_path):
    root = published["small"][0].parent
    done = run_stranger(root, ["small", "small_wide"], "trust", tmp_path)
    assert done.stdout.endswith("all of it\n"), done.stderr[-3000:]


def test_a_stem_of_our_own_loads_by_plain_transformers_once_hf_ssl_is_imported(published):
    folder, model = published["small"]
    images = images_of(model)
    loaded = AutoModel.from_pretrained(folder)
    assert type(loaded).__module__ == "hf_ssl.small_stem"
    torch.testing.assert_close(loaded(images).pooler_output, model.encode(images), rtol=0, atol=1e-5)
    pixels = AutoImageProcessor.from_pretrained(folder)(Image.new("RGB", (50, 40)))["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    tuned = AutoModelForImageClassification.from_pretrained(folder, num_labels=5)
    tuned(images, labels=torch.tensor([0, 1, 2])).loss.backward()
    assert tuned.backbone.fc.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("backbone", "stem"), [("test_resnet", "small"), ("resnet18", "small_nopool")])
def test_a_fresh_network_with_our_stem_starts_as_timm_made_it(backbone, stem):
    """Bug: transformers' post_init draws every weight anew, from another distribution."""
    torch.manual_seed(0)
    expected = adapt_stem(timm.create_model(backbone, num_classes=0), stem)
    torch.manual_seed(0)
    fresh = SmallStemModel(SmallStemConfig(backbone=backbone, stem=stem))
    assert same(fresh.backbone, expected.state_dict())


def test_timm_refuses_a_stem_it_does_not_know_where_the_weights_would_fit_its_own(published):
    folder, model = published["small"]
    timm_own = timm.create_model("resnet10t", num_classes=0, channels=(8, 16, 16, 32))
    timm_own.load_state_dict(load_file(folder / "model.safetensors"))  # it would not have noticed
    assert not torch.allclose(timm_own.eval()(images_of(model)), model.encode(images_of(model)), atol=1e-3)
    with pytest.raises(KeyError, match="architecture"):
        timm.create_model(f"local-dir:{folder}", pretrained=True)


@pytest.mark.parametrize("name", MODELS)
def test_an_opened_model_gives_the_models_features_and_its_preprocessing(published, name):
    folder, model = published[name]
    encoder = open_model(str(folder))
    images = images_of(model)
    assert torch.equal(encoder(images), model.encode(images))
    assert not encoder.training
    assert encoder.preprocess.size == model.config.image_size
    assert encoder.preprocess.mean == tuple(model.config.image_mean)
    assert encoder.name == str(folder)


def test_the_whole_model_is_beside_the_backbone(published):
    for folder, model in published.values():
        reloaded = AutoSSLModel.from_pretrained(folder / "pretraining")
        assert type(reloaded) is type(model)
        assert same(reloaded, model.state_dict())


@pytest.mark.parametrize(
    ("changed", "kind", "sentence"),
    [
        ({"momentum": 2.0}, UsageError, "momentum must be from 0 to 1, but is 2.0"),
        ({"beta": -1}, UsageError, "beta must not be negative"),
        ({"queue_length": 12}, HfSslError, "does not fit MoCoModel: mismatched_keys 'queue.keys'"),
        ({"num_heads": 2}, HfSslError, "does not fit MoCoModel: mismatched_keys"),
    ],
)
def test_a_model_is_not_opened_under_settings_that_it_cannot_have(tmp_path, changed, kind, sentence):
    """Bug: settings that config.json may not hold, and sizes that the weights do not have, given on opening."""
    small_model("moco").save_pretrained(tmp_path)
    with pytest.raises(kind, match=sentence):
        AutoSSLModel.from_pretrained(tmp_path, **changed)
    assert AutoSSLModel.from_pretrained(tmp_path, momentum=0.5).config.momentum == 0.5


def test_the_configuration_holds_what_the_layout_asks_for(published):
    config = json.loads((published["plain"][0] / "config.json").read_text())
    assert config["model_type"] == "timm_wrapper"
    assert config["architecture"] == "resnet10t"
    assert (config["num_classes"], config["num_features"], config["global_pool"]) == (0, 32, "avg")
    assert config["model_args"] == MODELS["plain"]["backbone_kwargs"]
    described = config["pretrained_cfg"]
    assert described["input_size"] == [3, 32, 32]
    assert (described["mean"], described["std"]) == (NORM["image_mean"], NORM["image_std"])
    assert (described["interpolation"], described["crop_pct"]) == ("bicubic", 1.0)
    assert config["hf_ssl"]["method"] == "mixed_barlow_twins"
    assert config["hf_ssl"]["results"] == RESULTS
    wider = json.loads((published["wider_head"][0] / "config.json").read_text())
    assert wider["num_features"] == 1024  # not timm's num_features, 288
    assert json.loads((published["vit"][0] / "config.json").read_text())["model_args"] == {"img_size": 64}
    assert json.loads((published["grey"][0] / "config.json").read_text())["model_args"] == {"in_chans": 1}


def test_recipe_and_results_are_readable_files(published):
    folder, _ = published["plain"]
    assert yaml.safe_load((folder / "recipe.yaml").read_text()) == {**RECIPE, "projector_dims": [16, 8]}
    assert json.loads((folder / "results.json").read_text()) == RESULTS
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "pretraining", "README.md", "recipe.yaml", "results.json",
    }  # fmt: skip


def test_the_same_model_is_published_as_the_same_bytes(tmp_path):
    for copy in ("a", "b"):
        publish_folder(trained("plain").to(memory_format=torch.channels_last), tmp_path / copy, recipe={}, results=[])
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
    assert len(files) == 7


def test_a_save_that_dies_leaves_the_old_files_and_nothing_else(tmp_path, monkeypatch):
    publish_folder(trained("plain"), tmp_path, recipe=RECIPE, results=[])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def die(state, path, **options):
        save_file(state, path, **options)
        os.truncate(path, path.stat().st_size // 2)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publishing, "save_file", die)
    with pytest.raises(OSError, match="No space left"):
        publish_folder(trained("plain", seed=1), tmp_path, recipe={}, results=RESULTS)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_a_killed_save_left_is_cleared_away(tmp_path):
    (tmp_path / publishing.STAGE / "pretraining").mkdir(parents=True)
    (tmp_path / publishing.STAGE / "stray.bin").write_bytes(b"x")
    publish_folder(trained("plain"), tmp_path, recipe={}, results=[])
    assert not list(tmp_path.rglob("stray.bin"))
    assert not (tmp_path / publishing.STAGE).exists()


def test_a_reader_never_meets_half_a_file(tmp_path):
    models = [trained("plain", seed=seed) for seed in (0, 1)]
    whole = [model.backbone.conv1[0].weight for model in models]
    publish_folder(models[0], tmp_path, recipe={}, results=[])
    done, faults, reads = threading.Event(), [], []

    def read():
        while not done.is_set():
            try:
                weight = load_file(tmp_path / "model.safetensors")["conv1.0.weight"]
                json.loads((tmp_path / "config.json").read_text())
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                faults.append(error)
            else:
                reads.append(any(torch.equal(weight, one) for one in whole))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(8):
        publish_folder(models[(turn + 1) % 2], tmp_path, recipe={}, results=[])
    done.set()
    reader.join()
    assert not faults
    assert len(reads) > 8
    assert all(reads)


def damaged(folder, target, change):
    """A copy of a published folder whose weights were changed."""
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, target / "model.safetensors")
    return str(target)


def test_missing_unknown_and_misshapen_weights_are_refused_and_counted(published, tmp_path):
    folder, _ = published["plain"]

    def lose(weights):
        for name in ("bn1.weight", "bn1.bias", "conv1.0.weight"):
            del weights[name]

    with pytest.raises(HfSslError, match=r"3 of \d+ weights are missing .*'bn1.bias'"):
        open_model(damaged(folder, tmp_path / "missing", lose))
    with pytest.raises(HfSslError, match=r"1 of \d+ weights are unknown .*'extra'"):
        open_model(damaged(folder, tmp_path / "unknown", lambda weights: weights.update(extra=torch.ones(1))))
    with pytest.raises(HfSslError, match=r"1 of \d+ weights have another shape .*'bn1.bias'"):
        open_model(damaged(folder, tmp_path / "shape", lambda weights: weights.update({"bn1.bias": torch.ones(1)})))
    (tmp_path / "shape" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(HfSslError, match="damaged"):
        open_model(str(tmp_path / "shape"))


def test_a_classifier_that_came_with_the_weights_is_passed_over(published, tmp_path):
    folder, model = published["plain"]
    more = {"fc.weight": torch.ones(5, 32), "fc.bias": torch.ones(5)}
    encoder = open_model(damaged(folder, tmp_path / "classifier", lambda weights: weights.update(more)))
    assert torch.equal(encoder(images_of(model)), model.encode(images_of(model)))


def test_names_that_are_no_model_are_told_apart(published, tmp_path):
    with pytest.raises(UsageError, match=r"there is no config\.json in it"):
        open_model(str(tmp_path))
    with pytest.raises(UsageError, match="name the folder that it is in"):
        open_model(str(published["plain"][0] / "pretraining"))
    with pytest.raises(UsageError, match="is no folder; a model is a folder, a Hub id"):
        open_model(str(tmp_path / "runs" / "gone"))
    with pytest.raises(UsageError, match=r"timm has no model 'resnet19'.*resnet18"):
        open_model("timm:resnet19")
    with pytest.raises(UsageError, match="timm has no pretrained weights for 'botnet50ts_256'"):
        open_model("timm:botnet50ts_256")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="'bert', not a published backbone"):
        open_model(str(tmp_path))


def test_weights_that_cannot_be_downloaded_are_one_sentence(monkeypatch):
    def offline(*_, **__):
        raise LocalEntryNotFoundError("Cannot find the requested files in the cache.\nAnd much more.")

    monkeypatch.setattr("hf_ssl.repository.opening.timm.create_model", offline)
    monkeypatch.setattr("hf_ssl.repository.opening.snapshot_download", offline)
    with pytest.raises(HfSslError, match="timm's weights of 'resnet18' are not on this machine") as told:
        open_model("timm:resnet18")
    assert "\n" not in str(told.value)
    with pytest.raises(HfSslError, match="'org/name' is no folder here and could not be had from the Hub") as told:
        open_model("org/name")
    assert "\n" not in str(told.value)


def test_a_fresh_run_starts_from_the_whole_model_where_the_parts_fit(published):
    folder, model = published["plain"]
    fresh = trained("plain", seed=5)
    load_weights(fresh, str(folder))
    assert same(fresh, model.state_dict())


def test_other_heads_start_anew_on_the_same_backbone(published):
    folder, model = published["plain"]
    fresh = small_model("barlow_twins", seed=5, projector_dims=(4, 4), **{**NORM, **MODELS["plain"]})
    heads = {name: value.clone() for name, value in fresh.projector.state_dict().items()}
    load_weights(fresh, str(folder))
    assert all(
        torch.equal(value, fresh.backbone.state_dict()[name]) for name, value in model.backbone.state_dict().items()
    )
    assert all(torch.equal(value, fresh.projector.state_dict()[name]) for name, value in heads.items())


def parts(model):
    return {part: getattr(model, part).state_dict() for part, _ in model.named_children()}


@pytest.mark.parametrize(
    ("source", "target", "own", "anew", "sentence"),
    [
        ("amcl_moco", "amcl_moco", {"queue_length": 12}, {"queue"}, "starting anew: 'queue'"),
        ("amcl_simclr", "amcl_moco", {}, {"queue"}, "starting anew: 'queue'"),
        ("amcl_moco", "amcl_moco", {"projector_dims": (12, 8)}, {"projector", "queue"}, "anew: 'projector', 'queue'"),
        ("moco", "amcl_simclr", {"num_heads": 1}, {"temperature"}, "'backbone', 'projector'; starting anew"),
        (
            "barlow_twins",
            "barlow_twins",
            {"projector_dims": (4, 4)},
            {"projector"},
            ": 'backbone'; starting anew: 'projector'",
        ),
        ("amcl_moco", "amcl_moco", {}, set(), ""),
    ],
)
def test_every_part_that_fits_is_taken_and_the_others_are_named(tmp_path, caplog, source, target, own, anew, sentence):
    """Bug: trained heads that are thrown away because a queue has another length."""
    plain = {**NORM, **MODELS["plain"]}
    model, fresh = small_model(source, seed=1, **plain), small_model(target, seed=2, **plain, **own)
    if source == "amcl_moco":
        for parameter in model.momentum_encoder.parameters():
            parameter.add_(1.0)  # as after training: no copy of the online network
    publish_folder(model, tmp_path, recipe={}, results=[])
    before, given = deepcopy(parts(fresh)), parts(model)
    with caplog.at_level("INFO", "hf_ssl.repository"):
        load_weights(fresh, str(tmp_path))
    for part, state in parts(fresh).items():
        if part == "momentum_encoder" and (source != target or "projector" in anew):
            expected = {
                name: fresh.get_parameter(name) for name in state if "running" not in name and "num_" not in name
            }
        else:
            expected = before[part] if part in anew else given[part]
        assert all(torch.equal(state[name], value) for name, value in expected.items()), part
    assert sentence in caplog.text if anew else not caplog.text


@pytest.mark.parametrize(
    ("name", "changed", "sentence"),
    [
        ("plain", MODELS["vit"], 'has backbone resnet10t .*, asked for test_vit {"img_size": 64}: ask for the same'),
        (
            "vit",
            {"backbone": "test_vit", "image_size": 32},
            'test_vit {"img_size": 64}, asked for test_vit {"img_size',
        ),
    ],
)
def test_another_backbone_is_refused_by_name(published, name, changed, sentence):
    fresh = small_model("mixed_barlow_twins", **{**NORM, **changed})
    with pytest.raises(UsageError, match=sentence):
        load_weights(fresh, str(published[name][0]))


def test_another_stem_is_refused_by_name(tmp_path):
    thin = {"backbone": "resnet18", "backbone_kwargs": {"channels": [8, 16, 16, 32]}, **NORM}
    publish_folder(small_model("simclr", stem="small", **thin), tmp_path, recipe={}, results=[])
    with pytest.raises(UsageError, match=r"has backbone resnet18 with stem small {.*}, asked for resnet18 {"):
        load_weights(small_model("simclr", **thin), str(tmp_path))


def test_damaged_weights_of_the_same_backbone_are_no_wrong_usage(published, tmp_path):
    folder = damaged(published["plain"][0], tmp_path / "damaged", lambda weights: weights.pop("bn1.bias"))
    with pytest.raises(HfSslError, match=r"1 of \d+ weights are missing") as told:
        load_weights(trained("plain"), folder)
    assert not isinstance(told.value, UsageError)


def test_a_model_that_does_not_say_how_images_are_normalised_is_not_published(tmp_path):
    model = small_model("barlow_twins")
    with pytest.raises(HfSslError, match="image_mean"):
        published_config(model, {}, [])
    with pytest.raises(HfSslError, match="image_mean"):
        publish_folder(model, tmp_path, recipe={}, results=[])
    assert not list(tmp_path.iterdir())


def test_new_results_reach_the_card_and_the_configuration(tmp_path):
    publish_folder(trained("plain"), tmp_path, recipe=RECIPE, results=[])
    assert "83.10 %" not in (tmp_path / "README.md").read_text()
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    refresh_card(tmp_path)
    assert "83.10 %" in (tmp_path / "README.md").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["hf_ssl"]["results"] == RESULTS
    assert torch.equal(open_model(str(tmp_path)).network.conv1[0].weight, trained("plain").backbone.conv1[0].weight)


def test_a_folder_of_results_alone_gets_no_card(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    refresh_card(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
