"""Rows: what they hold, how sure they are, and that measuring again replaces instead of adding."""

import json

import numpy as np
import pytest
import torch

from hf_ssl.errors import HfSslError
from hf_ssl.evaluation.results import About, accuracies, clean_command, headline, interval, merge, read, versions

FIELDS = [
    *("protocol", "metric", "value", "low", "high", "dataset", "dataset_fingerprint", "split"),
    *("settings", "seed", "command", "versions"),
]


def rows(protocol="knn", settings=None, value=0.5, seed=0, dataset="photos", split="test"):
    scores = torch.eye(2)[[0] * 100]
    labels = torch.tensor([0] * int(100 * value) + [1] * (100 - int(100 * value)))
    about = About(dataset=dataset, split=split, seed=seed, settings=(("n_train", 7),), command="hf-ssl evaluate run")
    return about.rows(protocol, {"k": 20} if settings is None else settings, scores, labels)


def test_a_row_has_the_fields_of_the_format_and_survives_json():
    row = rows()[0]
    assert list(row) == FIELDS
    assert row["settings"] == {"k": 20, "n_train": 7}
    assert (row["metric"], row["value"]) == ("top1", 0.5)
    assert row["low"] < 0.5 < row["high"]
    assert json.loads(json.dumps(row)) == row
    assert row["versions"]["torch"] == torch.__version__
    assert {"torch", "timm", "transformers", "datasets"} <= versions().keys()


def test_accuracies_by_hand():
    scores = torch.tensor(
        [
            [9.0, 1, 2, 3, 4, 5, 6],  # right
            [9.0, 8, 7, 6, 5, 4, 3],  # the label is third
            [9.0, 8, 7, 6, 5, 4, 3],  # the label is sixth
            [1.0, 1, 1, 1, 1, 1, 1],  # a tie goes to the lower class, which is right
            [1.0, 1, 1, 1, 1, 1, 1],  # and here is wrong
        ]
    )
    labels = torch.tensor([0, 2, 5, 0, 1])
    found = {name: value for name, (value, _, _) in accuracies(scores, labels).items()}
    assert found["top1"] == pytest.approx(2 / 5)
    assert found["top5"] == pytest.approx(4 / 5)
    assert found["mean_class"] == pytest.approx((1 + 0 + 0 + 0) / 4)  # classes 0, 1, 2, 5


def test_the_mean_over_classes_is_not_the_mean_over_images():
    scores = torch.eye(3)[[0, 0, 0, 0, 0, 0]]
    found = accuracies(scores, torch.tensor([0, 0, 0, 0, 0, 1]))
    assert found["top1"][0] == pytest.approx(5 / 6)
    assert found["mean_class"][0] == pytest.approx(1 / 2)
    assert "top5" not in found  # of three classes it says nothing


def test_the_interval_is_the_binomial_one_for_a_share():
    hits = np.zeros(2000, dtype=bool)
    hits[:600] = True
    low, high = interval(lambda rows: float(hits[rows].mean()), len(hits), seed=3)
    half = 1.96 * (0.3 * 0.7 / 2000) ** 0.5
    assert low == pytest.approx(0.3 - half, abs=0.1 * half)
    assert high == pytest.approx(0.3 + half, abs=0.1 * half)
    assert (low, high) == interval(lambda rows: float(hits[rows].mean()), len(hits), seed=3)
    assert (low, high) != interval(lambda rows: float(hits[rows].mean()), len(hits), seed=4)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        hits = random.random(200) < 0.7
        low, high = interval(lambda rows, hits=hits: float(hits[rows].mean()), len(hits), seed=seed)
        covered += low <= 0.7 <= high
    assert 52 <= covered <= 60  # 57 expected; below 52 has a chance of 1 in 100


def test_merging_replaces_what_repeats_and_keeps_the_rest(tmp_path):
    path = tmp_path / "results.json"
    merge(path, rows(value=0.4))
    merge(path, rows(protocol="linear", settings={"probe": "sgd"}, value=0.6))
    merged = merge(path, rows(value=0.5))
    assert [(row["protocol"], row["metric"], row["value"]) for row in merged if row["metric"] == "top1"] == [
        ("knn", "top1", 0.5),
        ("linear", "top1", 0.6),
    ]
    assert read(path) == merged == json.loads(path.read_text())


@pytest.mark.parametrize(
    "other", [{"settings": {"k": 200}}, {"seed": 1}, {"dataset": "digits"}, {"split": "val"}, {"protocol": "linear"}]
)
def test_another_question_is_another_row(tmp_path, other):
    path = tmp_path / "results.json"
    merge(path, rows())
    assert len(merge(path, rows(**other))) == 2 * len(rows())


def test_a_probe_that_chose_another_setting_answers_the_same_question(tmp_path):
    path = tmp_path / "results.json"
    chosen = {"probe": "cached", "epochs": 50, "chosen_on": "held-out tenth of train"}
    merge(path, rows("linear", {**chosen, "learning_rate": 0.1, "weight_decay": 0.0}))
    merged = merge(path, rows("linear", {**chosen, "learning_rate": 0.3, "weight_decay": 0.1}))
    assert {row["settings"]["learning_rate"] for row in merged} == {0.3}
    merge(path, rows("linear", {"probe": "sgd", "learning_rate": 0.1}))
    assert len(merge(path, rows("linear", {"probe": "sgd", "learning_rate": 0.3}))) == 3 * len(rows())


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"value": 1}', '[{"protocol": "knn"}]'])
def test_a_file_that_holds_no_results_is_left_alone(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(HfSslError, match="no list of results"):
        merge(path, rows())
    assert path.read_text() == text


def test_the_headline_is_each_protocols_first_setting():
    knn = [*rows(value=0.5), *rows(settings={"k": 200}, value=0.9)]
    values = headline([*knn, *rows("linear", {"probe": "cached"}, value=0.7)])
    assert (values["knn/top1"], values["linear/top1"]) == (0.5, 0.7)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["hf-ssl", "evaluate", "/home/ada/runs/first"], "hf-ssl evaluate first"),
        (["--dataset=/data/ada/cells/"], "--dataset=cells"),
        (["--dataset", "~/cells"], "--dataset cells"),
        (["--dataset", "C:\\Users\\ada\\cells"], "--dataset cells"),
        (["--backbone_kwargs", '{"weights": "/home/ada/w.pth"}'], '--backbone_kwargs {"weights": "w.pth"}'),
        (["runs/first", "--dataset", "org/cells"], "runs/first --dataset org/cells"),
        (["../runs/first", "./cells", "train[:10%]"], "../runs/first ./cells train[:10%]"),
        (["timm:resnet18", "--learning_rate", "1e-3"], "timm:resnet18 --learning_rate 1e-3"),
    ],
)
def test_commands_keep_relative_paths_and_ids_and_the_end_of_absolute_ones(words, kept):
    assert clean_command(words) == kept
