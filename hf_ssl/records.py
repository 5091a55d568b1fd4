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
from hf_ssl.files import write_text
from hf_ssl.modeling import SSLModel
from hf_ssl.options import PretrainOptions
from hf_ssl.plan import Plan
from hf_ssl.recipe import RECORDED, changed_keys
from hf_ssl.repository import publish_folder
from hf_ssl.watch import drop_lines_after

logger = logging.getLogger(__name__)

FREE_KEYS = (  # where and how often to write, and where to run: a run can go on under others
    *("output_dir", "resume", "overwrite", "dry_run", "report_to", "keep_last", "keep_best"),
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
    found = checkpoint.checkpoints(folder / "checkpoints")
    if arguments.resume == "never":
        if found and not arguments.overwrite:
            raise UsageError(
                f"{folder} holds a run with {len(found)} checkpoints: choose another --output_dir, leave --resume at "
                "auto to go on with it, or say --overwrite true to discard it."
            )
        return None
    if arguments.resume not in ("auto", "never"):
        path = Path(arguments.resume)
        if not path.is_dir():
            raise UsageError(f"--resume takes auto, never or a checkpoint folder; '{path}' is none of them.")
        return path
    recorded = folder / "recipe.yaml"
    if found and recorded.is_file():
        before = yaml.safe_load(recorded.read_text(encoding="utf-8"))
        changed = changed_keys(before, json.loads(json.dumps(record)), FREE_KEYS)
        if changed:
            raise UsageError(
                f"{folder} holds a run with other settings ({listing(changed)}): choose another --output_dir, or "
                "--resume never --overwrite true to discard it."
            )
    return checkpoint.find(folder / "checkpoints")


def steps_done(checkpoint: Path) -> int:
    """Optimizer steps after which a checkpoint was written, from its name."""
    return int(checkpoint.name.removeprefix("step-"))


def open_folder(
    folder: Path, record: dict[str, Any], command: Sequence[str], accelerator: Accelerator, resume_from: Path | None
) -> None:
    """Prepare the folder of a fresh run, or cut the log of one that goes on back to where it goes on from."""
    log = folder / "log.jsonl"
    if resume_from is None:
        for old in ("checkpoints", "best", "report"):
            shutil.rmtree(folder / old, ignore_errors=True)
        (folder / "results.json").unlink(missing_ok=True)
        line = {
            "num_processes": accelerator.num_processes,
            "device": str(accelerator.device),
            "versions": record["versions"],
            "command": " ".join(command),
        }
        write_text(log, json.dumps({"run": line}) + "\n")
    else:
        drop_lines_after(log, steps_done(resume_from))
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
