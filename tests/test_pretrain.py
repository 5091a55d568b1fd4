"""A run from the command line to its folder: what it writes, and that nothing is ever lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

from hf_ssl import checkpoint, records
from hf_ssl.cli import main
from hf_ssl.data import open_source
from hf_ssl.heads import AdaptiveTemperature
from hf_ssl.methods import METHODS
from hf_ssl.modeling import SSLModel
from hf_ssl.watch import Watch

STEPS = 8
SMALL = ["--dataset", "digits", "--backbone", "test_resnet", "--image_size", "32", "--projector_dims", "16", "8"]
SMALL += ["--batch_size", "16", "--max_steps", str(STEPS), "--log_every", "1", "--save_every", "3"]
SMALL += ["--evaluate_every", "0", "--report_to", "none"]


def run(folder, *more, expect=0):
    words = ["pretrain", *SMALL, "--output_dir", str(folder), *more]
    assert main(words) == expect


def lines(folder, key="loss"):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if key in row]


def losses(folder):
    return {row["step"]: row["loss"] for row in lines(folder)}


def status(folder):
    return json.loads((folder / "status.json").read_text())


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    run(folder)
    return folder


def assert_same_run(folder, unbroken):
    assert losses(folder) == losses(unbroken)
    assert (folder / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()
    ours, theirs = (load_file(path / "pretraining" / "model.safetensors") for path in (folder, unbroken))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def break_at(monkeypatch, step, act):
    """Have `act` happen when step `step` is logged, once."""
    original, done = Watch.step, []

    def step_then_act(self, at, *rest):
        line = original(self, at, *rest)
        if at == step and not done:
            done.append(at)
            act()
        return line

    monkeypatch.setattr(Watch, "step", step_then_act)


def test_a_run_leaves_what_is_promised(unbroken):
    for name in ("config.json", "model.safetensors", "README.md", "recipe.yaml", "results.json", "log.jsonl"):
        assert (unbroken / name).is_file(), name
    assert (unbroken / "pretraining" / "model.safetensors").is_file()
    assert sorted(path.name for path in (unbroken / "checkpoints").iterdir()) == ["step-00000006", "step-00000008"]
    assert status(unbroken) == {
        "state": "done",
        "step": STEPS,
        "checkpoint": "checkpoints/step-00000008",
        "exit_code": 0,
        "message": "",
        "num_processes": 1,
    }
    assert [row["step"] for row in lines(unbroken)] == list(range(1, STEPS + 1))
    first = lines(unbroken, "run")[0]["run"]
    assert first["num_processes"] == 1 and "--dataset digits" in first["command"]
    line = lines(unbroken)[-1]
    assert set(line) >= {"step", "epoch", "loss", "terms", "learning_rate", "images_per_second", "data_wait"}
    assert line["loss"] == pytest.approx(sum(line["terms"].values()), rel=1e-5)
    recorded = yaml.safe_load((unbroken / "recipe.yaml").read_text())
    assert recorded["max_steps"] == STEPS and recorded["mix_group_size"] == 16 and recorded["versions"]["torch"]


def test_the_same_command_gives_the_same_bytes(unbroken, tmp_path):
    run(tmp_path / "again")
    assert_same_run(tmp_path / "again", unbroken)


def test_the_recorded_recipe_repeats_the_run(unbroken, tmp_path):
    folder = tmp_path / "repeated"
    assert main(["pretrain", "--recipe", str(unbroken / "recipe.yaml"), "--output_dir", str(folder)]) == 0
    assert_same_run(folder, unbroken)


def test_another_seed_is_another_run(unbroken, tmp_path):
    run(tmp_path / "other", "--seed", "1")
    assert losses(tmp_path / "other") != losses(unbroken)


def test_a_killed_run_goes_on_exactly(unbroken, tmp_path, monkeypatch):
    def killed():
        raise KeyboardInterrupt

    break_at(monkeypatch, 5, killed)
    run(tmp_path, expect=130)
    assert max(losses(tmp_path)) == 5
    run(tmp_path)
    assert_same_run(tmp_path, unbroken)


def test_a_torn_checkpoint_costs_only_its_steps(unbroken, tmp_path, monkeypatch):
    def killed():
        raise KeyboardInterrupt

    break_at(monkeypatch, 7, killed)
    run(tmp_path, expect=130)
    victim = tmp_path / "checkpoints" / "step-00000006" / "model.safetensors"
    victim.write_bytes(victim.read_bytes()[:-8])
    run(tmp_path)
    assert_same_run(tmp_path, unbroken)
    assert [checkpoint.fault(path) for path in checkpoint.checkpoints(tmp_path / "checkpoints")] == [None, None]


def test_a_run_whose_checkpoints_are_all_torn_is_not_begun_anew_unasked(unbroken, tmp_path, capsys):
    shutil.copytree(unbroken, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        (path / "manifest.json").unlink()
    run(tmp_path / "run", expect=2)
    assert "--init_from" in capsys.readouterr().err
    assert_same_run(tmp_path / "run", unbroken)


def test_a_run_killed_before_its_last_model_is_published_is_finished(unbroken, tmp_path, monkeypatch):
    def killed(model, folder, *, recipe, results):
        if len(checkpoint.checkpoints(folder / "checkpoints")) and max(losses(folder)) == STEPS:
            raise KeyboardInterrupt
        publish(model, folder, recipe=recipe, results=results)

    publish = records.publish_folder
    monkeypatch.setattr(records, "publish_folder", killed)
    run(tmp_path, expect=130)
    monkeypatch.undo()
    run(tmp_path)
    assert_same_run(tmp_path, unbroken)
    assert status(tmp_path)["state"] == "done" and (tmp_path / "report" / "loss.png").is_file()


def test_a_named_checkpoint_is_held_to_its_recipe_and_keeps_later_ones(unbroken, tmp_path, capsys):
    shutil.copytree(unbroken, tmp_path / "run")
    named = str(tmp_path / "run" / "checkpoints" / "step-00000006")
    run(tmp_path / "run", "--resume", named, "--learning_rate", "0.5", expect=2)
    assert "'learning_rate'" in capsys.readouterr().err
    run(tmp_path / "run", "--resume", named, expect=2)
    assert "later checkpoints" in capsys.readouterr().err
    run(tmp_path / "run", "--resume", named, "--overwrite")
    assert_same_run(tmp_path / "run", unbroken)


def test_a_folder_that_is_no_runs_is_left_alone(tmp_path, capsys):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.txt").write_text("years of work")
    for words in ([], ["--resume", "never", "--overwrite"]):
        run(tmp_path, *words, expect=2)
        assert "'report'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["report", "thesis.txt"]


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, capsys):
    run(tmp_path, "--learning_rate", "1e40", "--warmup_epochs", "0", "--save_every", "1", expect=1)
    assert "not finite" in capsys.readouterr().err
    assert not checkpoint.checkpoints(tmp_path / "checkpoints")


def launched(folder, *words, processes=0):
    """A run in a session of its own, as a scheduler starts it."""
    script = str(Path(__file__).parent.parent / "scripts" / "pretrain.py")
    start = [sys.executable, "-W", "ignore"]
    if processes:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*start, script, *SMALL, *words, "--output_dir", str(folder)],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    """Wait for a run; -> its exit code."""
    process.communicate()
    return process.returncode


def stop_at(process, folder, step):
    """Send SIGTERM to all of a run's processes once it has logged a step; -> its exit code."""
    while process.poll() is None and step not in (losses(folder) if (folder / "log.jsonl").is_file() else {}):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    error = process.communicate()[1]
    assert status(folder)["state"] == "stopped", error
    return process.returncode


def test_a_signal_to_the_whole_group_spares_the_workers_until_the_run_has_saved(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(40):
        Image.new("RGB", (120, 110), (number, 2 * number, 90)).save(images / f"{number}.png")
    words = ["--dataset", str(images), "--num_workers", "2", "--max_steps", "500", "--image_size", "32"]
    assert stop_at(launched(tmp_path / "run", *words), tmp_path / "run", 2) == 75


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_stops_and_the_same_command_goes_on(unbroken, tmp_path, monkeypatch, number):
    break_at(monkeypatch, 4, lambda: os.kill(os.getpid(), number))
    run(tmp_path, expect=75)
    stopped = status(tmp_path)
    assert (stopped["state"], stopped["exit_code"]) == ("stopped", 75)
    assert stopped["checkpoint"] == f"checkpoints/step-{stopped['step']:08d}"
    run(tmp_path)
    assert_same_run(tmp_path, unbroken)


def test_a_finished_run_says_so(unbroken, caplog, capsys):
    before = (unbroken / "log.jsonl").read_bytes()
    run(unbroken)
    assert f"already done at step {STEPS}" in capsys.readouterr().err
    assert (unbroken / "log.jsonl").read_bytes() == before


def test_another_recipe_in_the_folder_is_refused_by_key(unbroken, capsys):
    run(unbroken, "--learning_rate", "0.5", "--weight_decay", "0.1", expect=2)
    message = capsys.readouterr().err
    assert "'learning_rate'" in message and "'weight_decay'" in message and message.startswith("hf-ssl: ")


def test_a_fresh_start_does_not_destroy_a_run_unasked(unbroken, tmp_path, capsys):
    run(unbroken, "--resume", "never", expect=2)
    assert "--overwrite" in capsys.readouterr().err
    assert status(unbroken)["state"] == "done"


def test_overwriting_begins_anew(tmp_path):
    run(tmp_path, "--seed", "3")
    first = losses(tmp_path)
    run(tmp_path, "--seed", "4", "--resume", "never", "--overwrite", "true")
    assert losses(tmp_path) != first and min(losses(tmp_path)) == 1


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(tmp_path, capsys):
    run(tmp_path, "--learning_rate", "1e30", "--warmup_epochs", "0", expect=1)
    message = capsys.readouterr().err
    assert "The loss is" in message and "--learning_rate" in message
    assert status(tmp_path)["state"] == "failed"


def test_a_dry_run_leaves_the_views_and_nothing_else(tmp_path):
    run(tmp_path / "dry", "--dry_run")
    assert [path.name for path in (tmp_path / "dry").rglob("*") if path.is_file()] == ["views.png"]


def test_a_dry_run_refuses_what_a_run_would(tmp_path, capsys):
    run(tmp_path / "dry", "--dry_run", "--learning_rate", "1e30", "--warmup_epochs", "0", expect=1)
    assert "The loss is" in capsys.readouterr().err


def test_groups_of_keys_are_recorded_and_stay(tmp_path):
    """Bug: a default that follows the number of processes, so that a run that goes on with others changes."""
    words = ["--method", "moco", "--batch_size", "64", "--queue_length", "128", "--max_steps", "2"]
    words += ["--save_every", "1"]
    run(tmp_path / "alone", *words)
    assert yaml.safe_load((tmp_path / "alone" / "recipe.yaml").read_text())["key_batch_norm_groups"] == 8
    run(tmp_path / "begun", *words, "--key_batch_norm_groups", "1")
    run(tmp_path / "begun", *words)  # the same run, not one with other settings
    checkpoint = tmp_path / "begun" / "checkpoints" / "step-00000001"
    run(tmp_path / "elsewhere", *words, "--resume", str(checkpoint))  # nor there
    assert losses(tmp_path / "elsewhere")[2] == losses(tmp_path / "begun")[2]
    assert losses(tmp_path / "begun") != losses(tmp_path / "alone")


def test_a_flat_folder_of_images_trains_and_names_what_is_broken(tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(40):
        colour = (number * 6, 255 - number * 6, 90)
        Image.new("RGB", (40 + number % 3, 36), colour).save(images / f"{number:03d}.png")
    (images / "007.png").write_bytes(b"")
    folder = tmp_path / "run"
    words = ["--dataset", str(images), "--max_bad_fraction", "0.1"]
    run(folder, *words)
    assert "007.png" in capsys.readouterr().err
    assert status(folder)["state"] == "done"


def test_a_stream_resumes_exactly(tmp_path, monkeypatch):
    parquet = tmp_path / "data"
    parquet.mkdir()
    open_source("digits").dataset.select(range(100)).to_parquet(str(parquet / "train-00000.parquet"))
    words = ["--dataset", str(parquet), "--streaming", "--image_size", "32"]
    run(tmp_path / "whole", *words)

    def killed():
        raise KeyboardInterrupt

    break_at(monkeypatch, 7, killed)
    run(tmp_path / "broken", *words, expect=130)
    run(tmp_path / "broken", *words)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")


def test_two_processes_equal_one_and_one_goes_on_where_two_were_stopped(tmp_path):
    words = ["--max_steps", "40", "--mix_group_size", "8", "--evaluate_every", "20"]
    run(tmp_path / "one", *words)
    stop_at(launched(tmp_path / "two", *words, processes=2), tmp_path / "two", 3)
    stopped = status(tmp_path / "two")["step"]
    assert lines(tmp_path / "two", "run")[0]["run"]["num_processes"] == 2
    run(tmp_path / "two", *words)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert 3 <= stopped < 40 and list(two) == list(one)
    assert two[1] == pytest.approx(one[1], rel=1e-5)
    assert two[3] == pytest.approx(one[3], rel=1e-3)  # float32 rounding grows with the steps


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["map", "stream"])
def test_two_processes_go_on_exactly(tmp_path, kind):
    parquet = tmp_path / "data"
    parquet.mkdir()
    open_source("digits").dataset.select(range(100)).to_parquet(str(parquet / "train-00000.parquet"))
    words = ["--dataset", str(parquet), "--max_steps", "40", *(["--streaming"] if kind == "stream" else [])]
    assert finished(launched(tmp_path / "whole", *words, processes=2)) == 0
    stop_at(launched(tmp_path / "broken", *words, processes=2), tmp_path / "broken", 5)
    assert finished(launched(tmp_path / "broken", *words, processes=2)) == 0
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")


@pytest.mark.parametrize("more", [["--mixed_precision", "bf16", "--channels_last"], ["--optimizer", "lars"]])
def test_other_ways_to_compute_train_too(tmp_path, more):
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision otherwise
    run(tmp_path, *more)
    assert status(tmp_path)["state"] == "done"
    assert all(value.is_contiguous() for value in load_file(tmp_path / "model.safetensors").values())
    AcceleratorState._reset_state(reset_partial_state=True)


def test_compiling_keeps_the_weights_names_and_says_when_it_cannot(unbroken, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(torch, "compile", broken)
    run(tmp_path, "--compile")
    assert "no compiler found" in capsys.readouterr().err
    assert losses(tmp_path) == losses(unbroken)


METHOD_WORDS = {
    "moco": ["--queue_length", "32"],
    "amcl_moco": ["--queue_length", "32"],
    "moco_v3": ["--predictor_dims", "16", "8"],
    "simsiam": ["--predictor_dims", "4", "8"],
}


@pytest.mark.parametrize("method", [name for name in METHODS if "mixed" not in name])
def test_every_method_resumes_exactly_with_all_it_keeps(tmp_path, monkeypatch, method):
    """Bug: a queue, a slow copy or a temperature that is not part of the state."""
    words = ["--method", method, *METHOD_WORDS.get(method, []), "--mix_weight", "0.5", "--max_steps", "5"]
    run(tmp_path / "whole", *words)

    def killed():
        raise KeyboardInterrupt

    break_at(monkeypatch, 4, killed)
    run(tmp_path / "broken", *words, expect=130)
    run(tmp_path / "broken", *words)
    assert_same_run(tmp_path / "broken", tmp_path / "whole")
    if "amcl" in method:
        readings = lines(tmp_path / "whole")[-1]["readings"]
        assert sum(readings["temperature_histogram"]) > 0 and 0 <= readings["temperature_at_bound"] <= 1


def test_a_queue_that_does_not_fit_is_refused_or_said(tmp_path, capsys):
    run(tmp_path / "odd", "--method", "moco", "--queue_length", "100", expect=2)
    assert "the nearest is 96" in capsys.readouterr().err
    run(tmp_path / "long", "--method", "moco", "--max_steps", "1")
    assert "longer than the data" in capsys.readouterr().err


def test_the_published_objective_warns_of_itself(tmp_path, capsys):
    run(tmp_path, "--method", "amcl_simclr", "--amcl_objective", "hard", "--max_steps", "1")
    assert "unbounded below" in capsys.readouterr().err


def test_settings_that_nothing_reads_are_said(tmp_path, capsys):
    run(tmp_path / "idle", "--method", "simclr", "--beta", "0.2", "--amcl_top_k", "7", "--max_steps", "1")
    assert "Nothing reads 'beta', 'amcl_top_k': without --temperature_range" in capsys.readouterr().err
    run(tmp_path / "read", "--method", "amcl_simclr", "--beta", "0.2", "--max_steps", "1")
    assert "Nothing reads" not in capsys.readouterr().err


def test_long_gradients_are_cut_to_length(tmp_path):
    """Bug: an option that is read and not applied, or applied after the step."""
    words = ["--optimizer", "sgd", "--sgd_momentum", "0", "--warmup_epochs", "0", "--max_steps", "1"]
    weights = []
    for name, rate, longest in (("start", "0", "1"), ("end", "0.16", "0.5")):
        run(tmp_path / name, *words, "--weight_decay", "0", "--learning_rate", rate, "--max_grad_norm", longest)
        state = load_file(tmp_path / name / "pretraining" / "model.safetensors")
        weights.append({key: value for key, value in state.items() if "running" not in key and "num_b" not in key})
    moved = sum((weights[1][key] - weights[0][key]).square().sum() for key in weights[0]).sqrt()
    assert moved.item() == pytest.approx(0.16 * 16 / 256 * 0.5, rel=1e-2)
    run(tmp_path / "none", "--max_grad_norm", "0", expect=2)


def test_the_method_hears_how_much_of_the_run_is_done(tmp_path, monkeypatch):
    """Bug: a progress that stands still, so that a momentum that should rise to 1 never does."""
    heard = []
    monkeypatch.setattr(SSLModel, "after_step", lambda model, output, progress: heard.append(progress))
    run(tmp_path, "--max_steps", "4")
    assert heard == [0.25, 0.5, 0.75, 1.0]


def test_temperatures_at_their_bound_are_said_once(tmp_path, capsys, monkeypatch):
    run(tmp_path / "well", "--method", "amcl_simclr")
    assert "are at a bound" not in capsys.readouterr().err
    monkeypatch.setattr(AdaptiveTemperature, "readings", lambda *_: {"temperature_at_bound": 0.96})
    run(tmp_path / "start", "--method", "amcl_simclr", "--max_steps", "1")  # they may start there and leave it
    assert "are at a bound" not in capsys.readouterr().err
    run(tmp_path / "ill", "--method", "amcl_simclr")
    assert capsys.readouterr().err.count("96 % of the learned temperatures are at a bound") == 1
