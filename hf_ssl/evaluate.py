"""From a model and labelled images to rows of results: what `evaluate` does, in order."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from transformers import AutoConfig

from hf_ssl.arguments import EvaluationArguments
from hf_ssl.data import open_pair
from hf_ssl.errors import UsageError
from hf_ssl.evaluation.baselines import raw_pixels, untrained
from hf_ssl.evaluation.results import Result, clean_command, merge
from hf_ssl.evaluation.suite import check_protocols, evaluate
from hf_ssl.parser import Parser
from hf_ssl.repository import open_model, refresh_card

logger = logging.getLogger(__name__)


def parse_evaluate(words: Sequence[str]) -> tuple[str, EvaluationArguments]:
    """Read the words after `evaluate`: -> the model's name and the options.

    Raises:
        UsageError: for a missing model, an unknown option or a value of the wrong type.

    """
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        raise UsageError(
            "Name a model first: hf-ssl evaluate MODEL (a run, a published folder, a Hub id or timm:NAME)."
        )
    parser = Parser(
        [EvaluationArguments],
        prog="hf-ssl evaluate MODEL",
        description="Measure a model's features on labelled images.",
    )
    (arguments,) = parser.parse(words if words[0].startswith("-") else words[1:])
    check_protocols(arguments.protocols)
    return words[0], arguments


def evaluate_model(name: str, arguments: EvaluationArguments, command: Sequence[str]) -> Iterator[str]:
    """Measure a model, merge the rows into results.json, and yield a line a row.

    Raises:
        UsageError: if the model, the data or its labels do not exist.
        HfSslError: if weights or images cannot be read.

    """
    encoder = open_model(name)
    folder = None if name.startswith("timm:") or not Path(name).is_dir() else Path(name)
    if not arguments.dataset:
        arguments.dataset, arguments.dataset_config, column = recorded_data(folder)
        arguments.image_column = arguments.image_column or column
    bank, queries = open_pair(
        arguments.dataset,
        config=arguments.dataset_config,
        train_split=arguments.train_split,
        test_split=arguments.test_split,
        image_column=arguments.image_column,
        label_column=arguments.label_column,
        seed=arguments.seed,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    measure = partial(
        evaluate,
        preprocess=encoder.preprocess,
        bank=bank,
        queries=queries,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        device=device,
        limit=arguments.limit,
        command=clean_command(command),
    )
    rows = measure(encoder.to(device), protocols=arguments.protocols)
    yield from (as_line("features", row) for row in rows)
    output = Path(arguments.output_dir) if arguments.output_dir else folder
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        merge(output / "results.json", rows)
        if output == folder:
            refresh_card(output)
    if arguments.baselines:
        for label, encode in baselines(folder, device).items():
            yield from (as_line(label, row) for row in measure(encode, protocols=("knn",)))


def recorded_data(folder: Path | None) -> tuple[str, str | None, str | None]:
    """The labelled data that a run was watched by: its name, configuration and image column, from its recipe.

    Raises:
        UsageError: if there is no recipe or it names none.

    """
    recipe: dict[str, Any] = {}
    if folder is not None and (folder / "recipe.yaml").is_file():
        recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    if recipe.get("probe_dataset"):
        return recipe["probe_dataset"], recipe.get("probe_config"), None
    if recipe.get("dataset"):
        return recipe["dataset"], recipe.get("dataset_config"), recipe.get("image_column")
    raise UsageError("Name labelled images: --dataset, a Hub id, a folder of class folders, or photos.")


def baselines(folder: Path | None, device: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """What the features have to beat: the network before training, where a run's folder has it, and raw pixels."""
    found: dict[str, Callable[[Tensor], Tensor]] = {"raw pixels": raw_pixels}
    if folder is not None and (folder / "pretraining").is_dir():
        found["untrained"] = untrained(AutoConfig.from_pretrained(folder / "pretraining"), device=device)
    return found


def as_line(label: str, row: Result) -> str:
    """One row for the terminal."""
    low, high = row["low"], row["high"]
    interval = "" if low is None or high is None else f"  [{low:.4f}, {high:.4f}]"
    names = ("k", "temperature", "learning_rate", "weight_decay")
    settings = ", ".join(f"{key} {row['settings'][key]}" for key in names if key in row["settings"])
    return f"{label:11s} {row['protocol']:7s} {row['metric']:10s} {row['value']:.4f}{interval}  {settings}"
