"""Write the tables of README.md from the registry, the recipes and the committed results; `--check` only compares."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from hf_ssl.files import read_json, write_text
from hf_ssl.methods import METHODS
from hf_ssl.recipe import read_recipe, recipe_names

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "model_cards" / "results"
TUNING_SEED = "100"


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def methods() -> str:
    """The registry, each with the first line of its module."""
    rows = []
    for name, model in METHODS.items():
        idea = (sys.modules[model.__module__].__doc__ or "").splitlines()[0]
        paper = re.search(r"\((.*?), (https://\S+?)\)", idea)
        title = idea.split(" (")[0]
        rows.append([f"`{name}`", f"[{title}]({paper[2]})" if paper else title, paper[1] if paper else ""])
    return table(["`--method`", "method", "paper"], rows)


def recipes() -> str:
    """The shipped recipes by name, with what their comments say was published."""
    rows = []
    for name in recipe_names():
        text = (ROOT / "hf_ssl" / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        published = next((line[2:] for line in text.splitlines() if line.startswith("# Published: ")), "")
        recipe = read_recipe(name)
        length = f"{recipe['max_steps']} steps" if "max_steps" in recipe else f"{recipe['epochs']} epochs"
        number = published.removeprefix("Published: ").split(" (")[0]
        rows.append([f"`{name}`", length, "none" if not number or number.startswith("no ") else number])
    return table(["`--recipe`", "length", "published"], rows)


def results() -> str:
    """The measured cells."""
    rows = []
    for cell in read_json(RESULTS / "small.json"):
        start, end = (f"{cell[key]:.1%}" if cell[key] is not None else "" for key in ("knn_start", "knn_end"))
        speed, memory = round(cell["images_per_second"]), f"{cell['peak_memory_bytes'] / 1e9:.1f} GB"
        rows.append([cell["cell"], cell["steps"], start, end, speed, memory, cell["num_processes"]])
    return table(["cell", "steps", "kNN before", "kNN after", "images/s", "peak memory", "processes"], rows)


def comparison() -> str:
    """Settings at equal budgets, a column a seed; seed 100 only chose learning rates and constant temperatures."""
    settings: dict[str, dict[str, Any]] = {}
    for cell in read_json(RESULTS / "comparison.json"):
        name, seed = cell["cell"].rsplit("-seed", 1)
        settings.setdefault(name, {})[seed] = cell
    seeds = sorted({seed for cells in settings.values() for seed in cells} - {TUNING_SEED}, key=int)
    rows = []
    for name, cells in sorted(settings.items()):
        measured = [cells[seed] for seed in seeds if seed in cells]
        if not measured:
            continue
        knn = [f"{cells[seed]['knn']['value']:.1%}" if seed in cells else "" for seed in seeds]
        readings = [cell["readings"] | (cell["evaluation"] or {}) for cell in measured]
        rows.append(
            [f"`{name}`", *knn, f"{fmean(cell['knn']['value'] for cell in measured):.1%}"]
            + [
                f"{fmean(reading[key] for reading in readings):{form}}" if key in readings[0] else ""
                for key, form in (("temperature_mean", ".2f"), ("temperature_at_bound", ".0%"), ("cka/heads", ".2f"))
            ]
        )
    head = ["setting", *(f"seed {seed}" for seed in seeds), "mean", "mean temperature", "at a bound", "CKA of heads"]
    return table(head, rows)


def benchmark() -> str:
    """The measured ratios, baseline time / ours unless the row says otherwise."""
    path = RESULTS / "benchmark.json"
    measured = read_json(path) if path.exists() else {}
    rows = []
    for group in ("losses", "views", "loop"):
        for row in measured.get(group, []):
            ratio = row.get("ratio_memory") or row.get("ratio_wall")
            rows.append([row["name"], row["baseline"], f"{ratio:.2f}" if ratio else "absent", row["bar"]])
    return table(["measured", "against", "ratio", "aim"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "methods": methods,
    "recipes": recipes,
    "results": results,
    "comparison": comparison,
    "benchmark": benchmark,
}


def filled(text: str) -> str:
    """The README with every marked block written anew."""
    for name, make in TABLES.items():
        block = f"<!-- {name} -->\n{make()}\n<!-- /{name} -->"
        before, rest = text.split(f"<!-- {name} -->")
        text = before + block + rest.split(f"<!-- /{name} -->")[1]
    return text


def main() -> int:
    """Write the tables, or say whether they are current."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        return int(filled(text) != text)
    write_text(path, filled(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
