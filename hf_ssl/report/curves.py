"""The curves of a run, from its log.jsonl: loss and terms, learning rate, probes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Curve = tuple[list[int], list[float]]  # steps and values


def draw_curves(folder: Path) -> list[Path]:
    """Draw what `folder`/log.jsonl holds as PNGs in `folder`/report, and return their paths.

    loss.png: the loss and, where there are several, its terms; learning_rate.png; and one picture for each probe, such
    as knn.png. What was never logged is not drawn; an earlier picture of it stays.
    """
    lines = read_log(folder / "log.jsonl")
    steps = [line for line in lines if "loss" in line]
    pictures: dict[str, Mapping[str, Curve]] = {}
    if steps:
        pictures["loss"] = _losses(steps)
        pictures["learning_rate"] = {"learning rate": curve([(line["step"], line["learning_rate"]) for line in steps])}
    probes = [(line["step"], line["evaluation"]) for line in lines if "evaluation" in line]
    for metric in sorted({name for _, values in probes for name in values}):
        found = curve([(step, values[metric]) for step, values in probes if metric in values])
        pictures[metric.split("/")[0]] = {**pictures.get(metric.split("/")[0], {}), metric: found}
    return [_draw(folder / "report" / f"{name}.png", name, curves) for name, curves in pictures.items()]


def read_log(log: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; none if there is no log, and not the line that a crash cut off."""
    lines = []
    for text in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def curve(points: Sequence[tuple[int, float]]) -> Curve:
    """Part (step, value) points into steps and values."""
    return [step for step, _ in points], [value for _, value in points]


def _losses(steps: Sequence[dict[str, Any]]) -> dict[str, Curve]:
    curves = {"loss": curve([(line["step"], line["loss"]) for line in steps])}
    names = sorted({name for line in steps for name in line["terms"]})
    if len(names) > 1:
        for name in names:
            curves[name] = curve([(line["step"], line["terms"][name]) for line in steps if name in line["terms"]])
    return curves


def _draw(path: Path, title: str, curves: Mapping[str, Curve]) -> Path:
    """Draw curves over steps into one PNG, logarithmic where positive values span more than a factor of 100."""
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, (steps, values) in curves.items():
        axes.plot(steps, values, label=name, linewidth=1.4, marker="." if len(steps) < 50 else None)
    every = [value for _, values in curves.values() for value in values]
    if title == "loss" and min(every) > 0 and max(every) > 100 * min(every):
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel=title.replace("_", " "))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1 or title not in ("loss", "learning_rate"):
        axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png", metadata={"Software": None})
    return temporary.replace(path)
