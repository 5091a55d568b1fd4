"""Recipes and the command line give typed settings, in that order, and misspelt words are named."""

import pytest
import yaml

from hf_ssl.arguments import cadence
from hf_ssl.augmentations import get_recipe
from hf_ssl.errors import UsageError
from hf_ssl.methods import METHODS
from hf_ssl.options import parse_pretrain, pretrain_parser
from hf_ssl.plan import make_plan
from hf_ssl.recipe import read_recipe, recipe_names
from hf_ssl.records import recipe_record


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
        (["--image_mean", "none", "0.5"], "the word none alone"),
        (["--image_size", "none"], "none"),
        (["--dataset"], "--dataset"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_remedy(words, sentence):
    with pytest.raises(UsageError, match=sentence):
        parse_pretrain(words)


def test_a_misspelt_key_in_a_recipe_is_caught_too(tmp_path):
    (tmp_path / "r.yaml").write_text("learning_rat: 0.1\n")
    with pytest.raises(UsageError, match="Did you mean 'learning_rate'"):
        parse_pretrain(["--recipe", str(tmp_path / "r.yaml")])


def test_nothing_is_a_value_where_nothing_is_allowed(tmp_path):
    """Bug: a null in a recipe that leaves the default, so that learned temperatures cannot be turned off."""
    recipe = tmp_path / "r.yaml"
    for method, key, default in (
        ("amcl_simclr", "temperature_range", (0.05, 1.0)),
        ("moco_v3", "predictor_dims", (512, 128)),
    ):
        recipe.write_text(f"method: {method}\n{key}: null\n")
        for words in (["--method", method, f"--{key}", "none"], ["--recipe", str(recipe)]):
            options = parse_pretrain(words)
            assert options.settings[key] is None and key in options.given
            config = METHODS[method].config_class(**options.settings)
            config.save_pretrained(tmp_path)
            assert getattr(METHODS[method].config_class.from_pretrained(tmp_path), key) is None
        again = ["--recipe", str(recipe), f"--{key}", *map(str, default)]
        assert tuple(parse_pretrain(again).settings[key]) == default
    assert parse_pretrain(["--recipe", "mixbt-photos", "--max_steps", "none"]).training.max_steps is None
    recipe.write_text("report_to: null\n")
    assert parse_pretrain(["--recipe", str(recipe)]).training.report_to is None
    assert parse_pretrain(["--report_to", "none"]).training.report_to == ["none"]


def test_a_recorded_nothing_repeats_the_run(tmp_path):
    options = parse_pretrain(["--method", "amcl_simclr", "--temperature_range", "none", "--dataset", "digits"])
    plan = make_plan(options.training, steps_per_epoch=2, num_processes=1, mixes=False)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_record(options, plan, 1)))
    again = parse_pretrain(["--recipe", str(tmp_path / "recipe.yaml")])
    assert again.settings["temperature_range"] is None
    assert (again.settings, again.data) == (options.settings, options.data)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("num_heads: null", "num_heads cannot be null"),
        ("predictor: null", "no option --predictor"),
        ("projector_dims: []", "projector-dims: expected at least one"),
    ],
)
def test_a_recipe_that_says_nothing_where_something_is_needed_is_refused(tmp_path, line, sentence):
    (tmp_path / "r.yaml").write_text(line + "\n")
    with pytest.raises(UsageError, match=sentence):
        parse_pretrain(["--recipe", str(tmp_path / "r.yaml")])


def test_what_a_recipe_says_of_its_data_set_is_not_said_of_another(tmp_path):
    """Bug: a recipe's column of images that stops a run on other images."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text("dataset: org/name\ndataset_config: large\nimage_column: img\nsplit: unlabeled\nepochs: 7\n")
    kept = parse_pretrain(["--recipe", str(recipe), "--dataset=org/name"])
    assert (kept.data.image_column, kept.data.split, kept.data.dataset_config) == ("img", "unlabeled", "large")
    other = parse_pretrain(["--recipe", str(recipe), "--dataset", "photos", "--split", "test"])
    assert (other.data.dataset, other.data.split, other.training.epochs) == ("photos", "test", 7)
    assert (other.data.image_column, other.data.dataset_config) == (None, None)
    assert "dataset" in other.given and "image_column" not in other.given


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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--method amcl_simclr --temperature 0.5", "Nothing reads 'temperature': with --temperature_range one is"),
        ("--method amcl_moco --amcl_top_k 5", "Nothing reads 'amcl_top_k': only --amcl_objective hard"),
        ("--method amcl_barlow_twins --amcl_objective hard --amcl_top_k 5", "Nothing reads 'amcl_top_k': amcl_barlow"),
        ("--method simsiam --temperature_range 0.1 1 --amcl_top_k 5", "Nothing reads 'amcl_top_k': simsiam does not"),
        ("--method simclr --beta 0.5", "Nothing reads 'beta': without --temperature_range"),
        ("--method simclr --mix_warmup_epochs 3", "Nothing reads 'mix_warmup_epochs': without --mix_weight"),
        ("--method barlow_twins --mix_target bb", "Nothing reads 'mix_target': without --mix_weight"),
    ],
)
def test_a_setting_that_nothing_reads_is_said_once(words, sentence):
    options = parse_pretrain(words.split())
    unread = [said for said in METHODS[options.method].config_class(**options.settings).cautions() if "reads" in said]
    assert len(unread) == 1 and unread[0].startswith(sentence)


@pytest.mark.parametrize(
    "words",
    [
        "--method amcl_simclr --temperature 0.1",
        "--method amcl_simclr --temperature none",
        "--method amcl_simclr --temperature_range none --temperature 0.5",
        "--method amcl_moco --amcl_objective hard --amcl_top_k 5",
        "--method simclr --mix_weight 1 --mix_warmup_epochs 3",
        *(f"--recipe {name}" for name in recipe_names()),
    ],
)
def test_of_settings_that_are_read_nothing_is_said(words):
    options = parse_pretrain(words.split())
    config = METHODS[options.method].config_class(**options.settings)
    assert not [said for said in config.cautions() if "Nothing reads" in said]


def test_help_says_when_a_setting_is_read():
    said = {action.dest: action.help for action in pretrain_parser("moco")._actions}
    assert "unused where temperatures are learned" in said["temperature"]
    assert "from 64 images on" in said["key_batch_norm_groups"]
