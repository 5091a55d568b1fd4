"""Tables of committed results: what was measured, as Markdown."""

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

Row = Mapping[str, Any]

TUNING_SEED = "100"  # the seed on which settings were chosen, never one that is shown


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def results(cells: Iterable[Row]) -> str:
    """Cells of `scripts/evidence.py`, one a row."""
    rows = []
    for cell in cells:
        start, end = (f"{cell[key]:.1%}" if cell[key] is not None else "" for key in ("knn_start", "knn_end"))
        speed, memory = round(cell["images_per_second"]), f"{cell['peak_memory_bytes'] / 1e9:.1f} GB"
        rows.append([cell["cell"], cell["steps"], start, end, speed, memory, cell["num_processes"]])
    return table(["cell", "steps", "kNN before", "kNN after", "images/s", "peak memory", "processes"], rows)


def comparison(measured_cells: Iterable[Row]) -> str:
    """Cells of `scripts/evidence.py` at equal budgets: a row a setting, a column a seed, the mean, and readings."""
    settings: dict[str, dict[str, Row]] = {}
    for cell in measured_cells:
        name, seed = cell["cell"].rsplit("-seed", 1)
        settings.setdefault(name, {})[seed] = cell
    seeds = sorted({seed for cells in settings.values() for seed in cells} - {TUNING_SEED}, key=int)
    rows = []
    families = {name: name.removeprefix("amcl_").split("-")[0] for name in settings}
    for name in sorted(settings, key=lambda name: (families[name], name)):
        cells = settings[name]
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


def benchmark(measured: Mapping[str, list[Row]]) -> str:
    """The ratios of `hf-ssl benchmark all`, baseline time / ours unless the row says otherwise."""
    rows = []
    for group in ("losses", "views", "loop"):
        for row in measured.get(group, []):
            ratio = row.get("ratio_memory") or row.get("ratio_wall")
            rows.append([row["name"], row["baseline"], f"{ratio:.2f}" if ratio else "absent", row["bar"]])
    return table(["measured", "against", "ratio", "aim"], rows)
