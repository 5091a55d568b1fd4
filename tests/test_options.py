"""Recipes and the command line give typed settings, in that order, and misspelt words are named."""

import pytest
import yaml

from hf_ssl.arguments import cadence
from hf_ssl.augmentations import get_recipe
from hf_ssl.errors import UsageError
from hf_ssl.methods import METHODS
from hf_ssl.options import parse_pretrain, pretrain_parser
from hf_ssl.recipe import read_recipe, recipe_names


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_defaults(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        yaml.safe_dump({"method": "barlow_twins", "epochs": 7, "batch_size": 32, "projector_dims": [8, 4]})
    )
    options = parse_pretrain(["--recipe", str(recipe), "--batch_size", "64", "--channels_last"])
    assert options.method == "barlow_twins"
    assert (options.training.epochs, options.training.batch_size) == (7, 64)
    assert options.training.channels_last is True
    assert tuple(options.settings["projector_dims"]) == (8, 4)
    assert options.settings["redundancy_weight"] == 0.0051
    assert options.training.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--bacth_size", "4"], "Did you mean 'batch_size'"),
        (["--method", "barlow_twin"], "Did you mean 'barlow_twins'"),
        (["--recipe", "mixbt-resnet18-cifar"], "Did you mean 'mixbt-resnet18-cifar10'"),
        (["--epochs", "many"], "many"),
        (["--optimizer", "lamb"], "lars, adam, adamw, sgd"),
        (["--keep_last", "1"], "at least 2"),
        (["--save_every", "often"], "often"),
        (["--backbone_kwargs", "{channels: 3}"], "JSON"),
        (["stray"], "stray"),
        (["--recipe"], "--recipe"),
        (["--seed", "-1"], "at least 0"),
        (["--learning_rate", "nan"], "at least 0"),
        (["--epochs", "inf"], "above 0"),
        (["--mix_group_size", "0"], "at least 1"),
        (["--num_workers", "-1"], "at least 0"),
        (["--data_on_device", "maybe"], "auto, true, false"),
        (["--probe_config", "mini"], "--probe_dataset"),
        (["--save_every", "nane"], "above it"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_remedy(words, sentence):
    with pytest.raises(UsageError, match=sentence):
        parse_pretrain(words)


def test_a_misspelt_key_in_a_recipe_is_caught_too(tmp_path):
    (tmp_path / "r.yaml").write_text("learning_rat: 0.1\n")
    with pytest.raises(UsageError, match="Did you mean 'learning_rate'"):
        parse_pretrain(["--recipe", str(tmp_path / "r.yaml")])


def test_a_recipe_belongs_to_its_method():
    with pytest.raises(UsageError, match="is for mixed_barlow_twins"):
        parse_pretrain(["--recipe", "mixbt-photos", "--method", "barlow_twins"])


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_builds_a_valid_configuration(name):
    options = parse_pretrain(["--recipe", name])
    recipe = read_recipe(name)
    config = METHODS[options.method].config_class(**options.settings)
    for key, value in recipe.items():
        if hasattr(config, key):
            got = getattr(config, key)
            assert (list(got) if isinstance(got, tuple) else got) == value
    get_recipe(options.training.augmentation)


@pytest.mark.parametrize("method", METHODS)
def test_every_option_says_what_it_is(method):
    for action in pretrain_parser(method)._actions:
        assert action.help, action.dest


def test_epochs_of_the_command_line_win_over_the_steps_of_a_recipe():
    assert parse_pretrain(["--recipe", "mixbt-photos", "--epochs", "2"]).training.max_steps is None
    assert parse_pretrain(["--recipe", "mixbt-photos", "--epochs", "2", "--max_steps", "9"]).training.max_steps == 9


def test_hyphens_and_a_bare_no_in_yaml_are_understood(tmp_path):
    assert "image_size" in parse_pretrain(["--image-size", "48"]).given
    (tmp_path / "r.yaml").write_text("mixed_precision: no\n")
    assert parse_pretrain(["--recipe", str(tmp_path / "r.yaml")]).training.mixed_precision == "no"


def test_dictionaries_travel_as_json():
    options = parse_pretrain(["--backbone_kwargs", '{"channels": [8, 16], "stem_width": 4}'])
    assert options.settings["backbone_kwargs"] == {"channels": [8, 16], "stem_width": 4}


def test_cadences_count_steps_or_epochs():
    assert cadence("50", 10, "x") == 50
    assert cadence("2e", 10, "x") == 20
    assert cadence("0.5e", 10, "x") == 5
    assert cadence("0", 10, "x") == 0
