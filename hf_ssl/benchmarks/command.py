"""The `benchmark` verb: which benchmarks to run, and their rows as lines and as a JSON file."""

import argparse
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_ssl.evaluation.results import clean_command, versions
from hf_ssl.files import write_json

NAMES = ("losses", "views", "loop")


def run_benchmarks(words: Sequence[str]) -> Iterator[str]:
    """Yield a line a row as the benchmarks named in `words` run, and write them to `--output` if asked."""
    parser = argparse.ArgumentParser(prog="hf-ssl benchmark", description=__doc__, allow_abbrev=False)
    parser.add_argument("name", choices=(*NAMES, "all"), help="what to measure")
    parser.add_argument("--output", type=Path, help="JSON file for the rows, with command and versions")
    chosen = parser.parse_args(list(words))
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in NAMES if chosen.name == "all" else (chosen.name,):
        rows[name] = importlib.import_module(f"hf_ssl.benchmarks.{name}").run()
        yield from (as_line(row) for row in rows[name])
    if chosen.output:
        command = clean_command(["hf-ssl", "benchmark", *words])
        write_json(chosen.output, {"command": command, "versions": versions(), **rows})


def as_line(row: dict[str, Any]) -> str:
    """One row for the terminal."""
    figures = "  ".join(
        f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, int | float) and key != "bar"
    )
    return f"{row['name']} against {row['baseline']}: {figures or 'absent'}  (bar {row['bar']})"
