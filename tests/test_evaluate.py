"""The `evaluate` verb: rows into results.json, the card beside them, and the right data by default."""

import json

import pytest

from hf_ssl.cli import main

RUN = ["--dataset", "digits", "--backbone", "test_resnet", "--image_size", "32", "--projector_dims", "16", "8"]
RUN += ["--batch_size", "32", "--max_steps", "3", "--report_to", "none"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert main(["pretrain", *RUN, "--output_dir", str(folder)]) == 0
    return folder


def rows(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_run_ends_with_knn_rows_of_its_own_probe(run):
    assert {(row["protocol"], row["metric"]) for row in rows(run)} >= {("knn", "top1")}
    assert rows(run)[0]["dataset"] == "digits"
    assert "knn" in (run / "README.md").read_text().lower()


def test_the_runs_own_data_is_the_default_and_rows_are_merged(run, capsys):
    words = ["evaluate", str(run), "--protocols", "knn", "linear", "--baselines"]
    assert main(words) == 0
    once = rows(run)
    assert main(words) == 0
    assert len(rows(run)) == len(once)
    printed = capsys.readouterr().out
    assert "linear" in printed and "raw pixels" in printed and "untrained" in printed
    linear = next(row for row in once if row["protocol"] == "linear" and row["metric"] == "top1")
    assert linear["low"] <= linear["value"] <= linear["high"]
    assert {"probe", "learning_rate", "chosen_on", "preprocessing", "n_train", "n_test"} <= set(linear["settings"])


def test_rows_can_go_elsewhere(run, tmp_path):
    before = rows(run)
    words = ["--dataset", "digits", "--protocols", "knn", "--limit", "100", "--output_dir", str(tmp_path)]
    assert main(["evaluate", str(run), *words]) == 0
    assert rows(run) == before
    assert {row["settings"]["n_train"] for row in rows(tmp_path)} == {100}
