"""All protocols in one call: rows that say what was measured, on what, and how."""

import json
from pathlib import Path

import pytest
import torch
from picture_files import parquet

from hf_ssl.data import open_pair
from hf_ssl.errors import UsageError
from hf_ssl.evaluation.baselines import raw_pixels
from hf_ssl.evaluation.suite import evaluate
from hf_ssl.preprocessing import Preprocess

PREPROCESS = Preprocess.for_training_size(8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    parquet(folder, rows=150)
    parquet(folder, rows=60, split="test")
    return open_pair(str(folder))


def test_every_row_says_what_it_was_measured_on(pair):
    calls = []

    def encode(images):
        calls.append(len(images))
        return raw_pixels(images)

    rows = evaluate(encode, PREPROCESS, *pair, batch_size=50, command="hf-ssl evaluate run")
    assert calls == [50, 50, 50, 50, 10]  # once for all protocols
    assert {row["protocol"] for row in rows} == {"knn", "linear"}
    for row in rows:
        assert row["split"] == "test"
        assert row["dataset"] == Path(pair[1].name).name  # where it lay says more about a machine than about data
        assert len(row["dataset_fingerprint"]) == 16
        assert row["command"] == "hf-ssl evaluate run"
        common = {"preprocessing": "resize 8 bicubic, centre crop 8", "n_train": 150, "n_test": 60}
        assert common.items() <= row["settings"].items()
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
    assert json.loads(json.dumps(rows)) == rows


def test_the_same_call_gives_the_same_rows_and_another_seed_other_choices(pair):
    rows = evaluate(raw_pixels, PREPROCESS, *pair, limit=40)
    assert evaluate(raw_pixels, PREPROCESS, *pair, limit=40) == rows
    assert rows[0]["settings"]["n_train"] == rows[0]["settings"]["n_test"] == 40
    assert [row["value"] for row in evaluate(raw_pixels, PREPROCESS, *pair, limit=40, seed=1)] != [
        row["value"] for row in rows
    ]


def test_features_that_know_the_label_are_perfect_and_ones_that_know_nothing_are_chance(pair):
    bank, queries = pair
    known = torch.tensor([row % 3 for row in range(150)])
    place = iter([*known.split(150), torch.tensor([row % 3 for row in range(60)])])
    told = evaluate(lambda images: torch.eye(3)[next(place)], PREPROCESS, bank, queries, batch_size=500)
    assert {row["value"] for row in told} == {1.0}
    constant = evaluate(lambda images: torch.ones(len(images), 4), PREPROCESS, bank, queries, protocols=("knn",))
    assert constant[0]["value"] == pytest.approx(1 / 3)


def test_only_what_was_asked_for_is_measured_and_the_unknown_is_refused(pair):
    assert {row["protocol"] for row in evaluate(raw_pixels, PREPROCESS, *pair, protocols=["linear"])} == {"linear"}
    with pytest.raises(UsageError, match=r"--protocols lineer is unknown.*'linear'"):
        evaluate(raw_pixels, PREPROCESS, *pair, protocols=["knn", "lineer"])


def test_the_fingerprint_changes_with_either_side(pair):
    bank, queries = pair

    def fingerprint(*sides):
        return evaluate(raw_pixels, PREPROCESS, *sides, protocols=["knn"])[0]["dataset_fingerprint"]

    assert fingerprint(bank, queries) == fingerprint(bank, queries)
    smaller = bank.select(range(100))
    assert len({fingerprint(*sides) for sides in (pair, (smaller, queries), (bank, smaller), (queries, bank))}) == 4
