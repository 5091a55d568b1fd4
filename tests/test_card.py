"""The card: a pure function of configuration, recipe and results that says nothing they do not."""

import copy

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_ssl.hub.card import model_card

CONFIG = {
    "model_type": "timm_wrapper",
    "architecture": "resnet10t",
    "model_args": {"channels": [16, 32], "stem_width": 16},
    "num_features": 128,
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.2],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
    },
    "hf_ssl": {
        "method": "mixed_barlow_twins",
        "title": "Mixed Barlow Twins",
        "paper": "https://huggingface.co/papers/2312.02151",
        "recipe": {},
        "results": [],
    },
}
SMALL = {name: value for name, value in CONFIG.items() if name not in ("architecture", "model_args")} | {
    "model_type": "hf_ssl_backbone",
    "backbone": "resnet18",
    "backbone_kwargs": {},
    "stem": "small_nopool",
}
RECIPE = {"dataset": "photos", "max_steps": 250, "learning_rate": 0.002, "optimizer": "adamw", "warmup_epochs": None}


def row(**changes):
    return {
        "protocol": "knn",
        "metric": "top1",
        "value": 0.8312,
        "low": 0.8201,
        "high": 0.8433,
        "dataset": "photos",
        "split": "test",
        "settings": {"k": 20, "temperature": 0.07, "n_train": 7000},
        **changes,
    }


def test_it_is_a_card_that_the_hub_reads():
    card = ModelCard(model_card(CONFIG, RECIPE, [row()]))
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert {"hf_ssl", "timm", "mixed_barlow_twins", "self-supervised-learning"} <= set(card.data.tags)


def test_it_never_guesses_a_licence():
    text = model_card(CONFIG, RECIPE, [row()])
    assert "license" not in yaml.safe_load(text.split("---")[1])
    assert "No licence was stated" in text


def test_it_is_a_pure_function():
    arguments = (CONFIG, RECIPE, [row()])
    before = copy.deepcopy(arguments)
    assert model_card(*arguments) == model_card(*arguments)
    assert arguments == before


def test_results_stand_in_a_table_with_interval_and_settings():
    text = model_card(
        CONFIG, RECIPE, [row(), row(protocol="health", metric="rankme", value=93.4567, low=None, high=None)]
    )
    assert (
        "| knn | top1 | 83.12 % | 82.01 % to 84.33 % | photos | test | k 20, temperature 0.07, n_train 7000 |" in text
    )
    assert "| health | rankme | 93.46 |  | photos |" in text
    assert "results.json" in text


def test_without_results_it_shows_no_numbers():
    text = model_card(CONFIG, RECIPE, [])
    assert "None have been measured." in text
    assert "%" not in text


def test_it_says_how_to_load_and_what_goes_in():
    text = model_card(CONFIG, RECIPE, [])
    assert "AutoModel.from_pretrained" in text
    assert "hf-hub:" in text
    assert "trust_remote_code" not in text
    assert "32 x 32 pixels, 3 channels" in text
    assert "(1, 128)" in text
    assert '`{"channels": [16, 32], "stem_width": 16}`' in text


def test_a_stem_of_our_own_comes_with_its_two_lines():
    text = model_card(SMALL, RECIPE, [])
    assert "import hf_ssl" in text
    assert "trust_remote_code=True" in text
    assert "small_nopool" in text
    assert "timm.create_model" not in text


def test_the_recipe_is_told_without_what_was_not_set():
    text = model_card(CONFIG, RECIPE, [])
    assert "| learning_rate | 0.002 |" in text
    assert "warmup_epochs" not in text


@pytest.mark.parametrize("dataset", ["/home/lovelace/private/cells", "/data/cells/"])
def test_absolute_paths_keep_their_last_folder(dataset):
    text = model_card(CONFIG, {**RECIPE, "dataset": dataset}, [row(dataset=dataset)])
    assert "lovelace" not in text
    assert "/data" not in text
    assert "cells" in text


def test_names_cannot_break_the_table_or_the_page():
    hostile = "a|b`\n---\n# title"
    text = model_card(CONFIG, {**RECIPE, "dataset": hostile}, [row(dataset=hostile, split=hostile)])
    lines = text.splitlines()
    assert lines.count("---") == 2
    assert "# title" not in lines
    table = [line for line in lines if line.startswith("| knn")]
    assert len(table) == 1
    assert table[0].replace("\\|", "").count("|") == 8


def test_a_method_without_a_paper_has_a_card_too():
    config = {**CONFIG, "hf_ssl": {"method": "new_method", "title": "New method", "paper": None}}
    assert "pretrained with New method" in model_card(config, {}, [])
