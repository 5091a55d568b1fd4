"""A run's folder: what was asked, whether it may go on, how it stands, and the model that is published from it."""

import importlib.util
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator

from hf_ssl import checkpoint
from hf_ssl.arguments import TrainingArguments
from hf_ssl.errors import UsageError, listing
from hf_ssl.evaluation.results import read, versions
from hf_ssl.files import read_json, write_text
from hf_ssl.modeling import SSLModel
from hf_ssl.options import PretrainOptions
from hf_ssl.plan import Plan
from hf_ssl.recipe import RECORDED, changed_keys
from hf_ssl.repository import publish_folder
from hf_ssl.runlog import drop_lines_after

logger = logging.getLogger(__name__)

WRITTEN = (  # what a run puts into its folder
    *("checkpoints", "best", "report", "pretraining", "config.json", "model.safetensors", "README.md"),
    *("recipe.yaml", "results.json", "log.jsonl", "status.json"),
)
FREE_KEYS = (  # where and how often to write, and where to run: a run can go on under others
    *("output_dir", "resume", "overwrite", "dry_run", "report_to", "keep_last", "keep_best", "max_bad_fraction"),
    *("log_every", "save_every", "evaluate_every", "num_workers", "data_on_device", "probe_dataset", "probe_config"),
    *RECORDED,
)


def recipe_record(options: PretrainOptions, plan: Plan, num_processes: int) -> dict[str, Any]:
    """Everything that was asked and worked out, as recipe.yaml keeps it: `--recipe` on it repeats the run."""
    training = asdict(options.training) | {"max_steps": plan.total_steps, "mix_group_size": plan.mix_group_size}
    for passing in ("output_dir", "resume", "overwrite", "dry_run"):
        training.pop(passing)
    record = {"method": options.method, **options.settings, **asdict(options.data), **training}
    return {**record, "num_processes": num_processes, "versions": versions()}


def where_to_start(arguments: TrainingArguments, folder: Path, record: dict[str, Any]) -> Path | None:
    """Return the checkpoint to go on from, or None for a fresh start.

    Raises:
        UsageError: if the folder holds another run, or one that must not be touched.

    """
    refuse_foreign(folder)
    saved = checkpoint.checkpoints(folder / "checkpoints")
    discard = "--resume never --overwrite true to discard it"
    if arguments.resume == "never":
        if (saved or (folder / "config.json").is_file()) and not arguments.overwrite:
            raise UsageError(
                f"{folder} holds a run: choose another --output_dir, leave --resume at auto to go on with it, or say "
                "--overwrite true to discard it."
            )
        return None
    named = None if arguments.resume == "auto" else Path(arguments.resume)
    if named is not None and not named.name.startswith("step-"):
        raise UsageError(f"--resume takes auto, never or a checkpoint folder (step-...); '{named}' is none of them.")
    if named is not None and (reason := checkpoint.fault(named)):
        raise UsageError(f"The checkpoint {named} cannot be used: {reason}.")
    recipe = folder / "recipe.yaml" if named is None else named.absolute().parents[1] / "recipe.yaml"
    if recipe.is_file():
        before = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        changed = changed_keys(before, json.loads(json.dumps(record)), FREE_KEYS)
        if changed:
            raise UsageError(
                f"{recipe.parent} holds a run with other settings ({listing(changed)}): choose another --output_dir, "
                f"or {discard}."
            )
    if named is not None:
        if (
            any(checkpoint.steps_done(path) > checkpoint.steps_done(named) for path in saved)
            and not arguments.overwrite
        ):
            raise UsageError(f"{folder} has later checkpoints than {named.name}: --overwrite true discards them.")
        return named
    found = checkpoint.find(folder / "checkpoints")
    if found is None and (saved or (folder / "config.json").is_file()):
        raise UsageError(
            f"{folder} holds a run and no checkpoint that can be gone on from: choose another --output_dir "
            f"(--init_from {folder} starts from its weights), or {discard}."
        )
    return found


def refuse_foreign(folder: Path) -> None:
    """Raise UsageError if a folder that is no run's holds what a run would replace."""
    if (folder / "recipe.yaml").is_file() and (folder / "log.jsonl").is_file():
        return
    foreign = [name for name in WRITTEN if (folder / name).exists()]
    if foreign:
        raise UsageError(f"{folder} is no run's folder and holds {listing(foreign)}: choose another --output_dir.")


def recorded(folder: Path, resume: str) -> dict[str, Any]:
    """What the run that goes on was asked and worked out, as its recipe.yaml has it; nothing where none goes on."""
    if resume == "never":
        return {}
    recipe = (folder if resume == "auto" else Path(resume).absolute().parent.parent) / "recipe.yaml"
    return yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.is_file() else {}


def is_done(folder: Path) -> bool:
    """Whether the run in `folder` has written everything that it ends with."""
    status = folder / "status.json"
    return status.is_file() and read_json(status)["state"] == "done"


def open_folder(
    folder: Path, record: dict[str, Any], command: Sequence[str], accelerator: Accelerator, resume_from: Path | None
) -> None:
    """Prepare the folder of a fresh run, or cut the log of one that goes on back to where it goes on from."""
    log = folder / "log.jsonl"
    if resume_from is None:
        for old in ("checkpoints", "best", "report"):
            shutil.rmtree(folder / old, ignore_errors=True)
        for old in ("results.json", "log.jsonl", "config.json", "status.json"):
            (folder / old).unlink(missing_ok=True)
    else:
        checkpoint.discard_after(folder / "checkpoints", checkpoint.steps_done(resume_from))
        drop_lines_after(log, checkpoint.steps_done(resume_from))
    if not log.is_file():
        line = {
            "num_processes": accelerator.num_processes,
            "device": str(accelerator.device),
            "versions": record["versions"],
            "command": " ".join(command),
        }
        write_text(log, json.dumps({"run": line}) + "\n")
    write_text(folder / "recipe.yaml", yaml.safe_dump(record, sort_keys=False))


def trackers(report_to: list[str] | None) -> list[str]:
    """Names for Accelerate: what was asked for, else tensorboard if it is installed.

    Raises:
        UsageError: if a named tracker is unknown or not installed.

    """
    known = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}
    if report_to is None:
        return ["tensorboard"] if importlib.util.find_spec("tensorboard") else []
    names = [name for name in report_to if name != "none"]
    for name in names:
        if name not in known:
            raise UsageError(f"--report_to takes {listing(known)} or none, not '{name}'.")
        if importlib.util.find_spec(known[name]) is None:
            raise UsageError(f"--report_to {name}: it is not installed; pip install {name}, or leave it out.")
    return names


class Publisher:
    """Writes the loadable model of a run, with its recipe and the results that its folder holds."""

    def __init__(self, record: dict[str, Any], run: Path) -> None:
        self.record, self.run = record, run

    def __call__(self, model: SSLModel, folder: Path) -> None:
        """Publish `model` to `folder`, replacing what is there file by file."""
        publish_folder(model, folder, recipe=self.record, results=[*map(dict, read(self.run / "results.json"))])
