"""Results are data: one row per protocol, setting and metric, with an interval and with what made it.

A row that was measured again replaces the old one, so a results file never holds two answers to one question.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from hf_ssl.errors import HfSslError
from hf_ssl.files import read_json, write_json

RESAMPLES = 1000
CHOSEN = ("learning_rate", "weight_decay")  # where a row says `chosen_on`, these are outcomes of the choice
PACKAGES = ("hf_ssl", "torch", "timm", "transformers", "datasets")
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/~-])~?(?:[A-Za-z]:)?[/\\](?!/)[^\s=,;\"']*")


class Result(TypedDict):
    """One line of results.json. Accuracies are fractions; `low` and `high` bound 95 % of the resampled values."""

    protocol: str
    metric: str
    value: float
    low: float | None
    high: float | None
    dataset: str
    dataset_fingerprint: str
    split: str
    settings: dict[str, Any]
    seed: int
    command: str
    versions: dict[str, str]


@dataclass(frozen=True)
class About:
    """What the rows of one evaluation have in common; `settings` is what every protocol's settings also hold."""

    dataset: str = ""
    dataset_fingerprint: str = ""
    split: str = "test"
    settings: tuple[tuple[str, Any], ...] = ()
    seed: int = 0
    command: str = ""

    def rows(self, protocol: str, settings: dict[str, Any], scores: Tensor, labels: Tensor) -> list[Result]:
        """Rows of every accuracy of class scores (Q, K) against int64 labels (Q,)."""
        return [
            Result(
                protocol=protocol,
                metric=metric,
                value=value,
                low=low,
                high=high,
                dataset=self.dataset,
                dataset_fingerprint=self.dataset_fingerprint,
                split=self.split,
                settings={**settings, **dict(self.settings)},
                seed=self.seed,
                command=self.command,
                versions=versions(),
            )
            for metric, (value, low, high) in accuracies(scores, labels, self.seed).items()
        ]


def accuracies(scores: Tensor, labels: Tensor, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Value, low and high of top1, of top5 where there are more than five classes, and of the mean over classes.

    scores: (Q, K), the highest wins, equal ones go to the lower class; labels: int64 (Q,).
    """
    ranked = scores.argsort(dim=1, descending=True, stable=True).cpu()
    labels = labels.cpu()
    hits: np.ndarray = (ranked == labels[:, None]).numpy()
    classes, top1 = labels.numpy(), hits[:, 0]

    def mean_class(rows: np.ndarray) -> float:
        counts, right = np.bincount(classes[rows]), np.bincount(classes[rows], weights=top1[rows])
        present = np.flatnonzero(counts)
        return float((right[present] / counts[present]).mean())

    metrics: dict[str, Callable[[np.ndarray], float]] = {"top1": lambda rows: float(top1[rows].mean())}
    if scores.shape[1] > 5:
        top5 = hits[:, :5].max(axis=1)
        metrics["top5"] = lambda rows: float(top5[rows].mean())
    metrics["mean_class"] = mean_class
    everyone = np.arange(len(classes))
    return {name: (metric(everyone), *interval(metric, len(classes), seed)) for name, metric in metrics.items()}


def interval(metric: Callable[[np.ndarray], float], count: int, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap (1,000 resamples) of `metric(rows)`, `rows` being `count` row numbers drawn anew."""
    random = np.random.default_rng(seed)
    values = [metric(random.integers(0, count, count)) for _ in range(RESAMPLES)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def merge(path: Path, rows: Iterable[Result]) -> list[Result]:
    """Add `rows` to the results file at `path`, each in place of the row it repeats; return all rows.

    Raises:
        HfSslError: if the file is there and holds no list of rows; it is left as it is.

    """
    merged = {_key(row): row for row in [*read(path), *rows]}
    write_json(path, list(merged.values()))
    return list(merged.values())


def read(path: Path) -> list[Result]:
    """Return the rows of a results file; none if there is no file.

    Raises:
        HfSslError: if the file holds no list of rows.

    """
    if not path.exists():
        return []
    try:
        rows = read_json(path)
        for row in rows:
            _key(row)
    except (ValueError, TypeError, KeyError) as error:
        raise HfSslError(f"{path} is no list of results ({error}); move it away and evaluate again.") from error
    return list(rows)


def headline(rows: Iterable[Result]) -> dict[str, float]:
    """Return the values a run is watched by, as "protocol/metric"; the first setting of a protocol speaks for it."""
    values: dict[str, float] = {}
    for row in rows:
        values.setdefault(f"{row['protocol']}/{row['metric']}", row["value"])
    return values


def clean_command(arguments: Sequence[str]) -> str:
    """Join a command line; absolute paths, which say more about a machine than about a run, keep their last part."""

    def last_part(path: re.Match[str]) -> str:
        return re.split(r"[/\\]", path[0].rstrip("/\\"))[-1]

    return " ".join(ABSOLUTE_PATH.sub(last_part, word) for word in arguments)


def versions() -> dict[str, str]:
    """Versions of the packages that a number depends on."""
    found = {"hf_ssl": "source"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"torch": str(torch.__version__)}


def _key(row: Result) -> str:
    """Return what a row answers: equal for two rows of which the later replaces the earlier."""
    settings = row["settings"]
    if "chosen_on" in settings:
        settings = {name: value for name, value in settings.items() if name not in CHOSEN}
    return json.dumps(
        [row["protocol"], row["metric"], row["dataset"], row["split"], settings, row["seed"]], sort_keys=True
    )
