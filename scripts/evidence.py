"""Run one cell of the evidence grid, resumably, and append what it gave to a results file.

A cell is a method on a data set at one seed. Give the same command again after an interruption: a cell goes on from
its last checkpoint, and one that is in the results file is left alone.

    python scripts/evidence.py --dataset path/to/cifar10 --method mixed_barlow_twins --seed 0
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from hf_ssl.evaluation.results import clean_command, versions
from hf_ssl.files import read_json, write_json

SMALL = {  # a network that two CPU cores train on 50,000 images in minutes
    "backbone": "resnet10t",
    "backbone_kwargs": json.dumps({"channels": [16, 32, 64, 128], "stem_width": 16}),
    "augmentation": "cifar",
    "image_size": "32",
    "batch_size": "256",
    "epochs": "10",
    "learning_rate": "0.002",
    "save_every": "1e",
    "evaluate_every": "1e",
}


MEASURED = "evaluation"  # folder within a run's, of what is measured on all images at the end


def main() -> int:
    """Run the cell and record it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="folder or Hub id of the labelled images")
    parser.add_argument("--method", required=True, help="a method of hf_ssl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("model_cards/results/small.json"), help="where rows go")
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"), help="where the runs' folders are")
    parser.add_argument("--launcher", default="", help="words before the script: torchrun --nproc-per-node 2")
    parser.add_argument("--name", default="", help="what tells this cell from others of the method and seed")
    arguments, more = parser.parse_known_args()
    name = "-".join(filter(None, (arguments.method, arguments.name, f"seed{arguments.seed}")))
    folder = arguments.runs / name
    words = ["--method", arguments.method, "--dataset", arguments.dataset, "--seed", str(arguments.seed)]
    words += [word for key, value in SMALL.items() for word in (f"--{key}", value)] + more
    command = clean_command(["hf-ssl", "pretrain", *words])
    before = [row["command"] for row in rows_of(arguments.results) if row["cell"] == name]
    if before:
        same = before == [command]
        print(f"{name} is in {arguments.results}{'' if same else ', made by another command: give this one a --name'}")
        return 0 if same else 1
    launcher = shlex.split(arguments.launcher) or [sys.executable]
    train = [*launcher, "scripts/pretrain.py", *words, "--output_dir", str(folder)]
    measure = [sys.executable, "scripts/evaluate.py", str(folder), "--protocols", "knn"]
    code = subprocess.call(train) or subprocess.call([*measure, "--output_dir", str(folder / MEASURED)])
    if code:
        return code
    write_json(arguments.results, [*rows_of(arguments.results), summary(name, folder, command)])
    return 0


def rows_of(results: Path) -> list[dict[str, Any]]:
    """Rows that are there now: another cell may have ended meanwhile."""
    return read_json(results) if results.exists() else []


def summary(name: str, folder: Path, command: str) -> dict[str, Any]:
    """One row: kNN of the run's probe and, at the end, of all images; speed and memory; and the command."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    probes = [line for line in lines if "evaluation" in line]
    whole = next(row for row in read_json(folder / MEASURED / "results.json") if row["metric"] == "top1")
    speeds = sorted(line["images_per_second"] for line in steps[1:] or steps)
    return {
        "cell": name,
        "knn_start": probes[0]["evaluation"]["knn/top1"] if probes else None,
        "knn_curve": {line["step"]: line["evaluation"]["knn/top1"] for line in probes},
        "knn_end": probes[-1]["evaluation"]["knn/top1"] if probes else None,
        "knn": {key: whole[key] for key in ("value", "low", "high", "settings")},
        "evaluation": probes[-1]["evaluation"] if probes else None,
        "loss_first": steps[0]["loss"],
        "loss_last": steps[-1]["loss"],
        "steps": steps[-1]["step"],
        "readings": steps[-1]["readings"],
        "images_per_second": speeds[len(speeds) // 2],
        "peak_memory_bytes": max(line["peak_memory_bytes"] for line in steps),
        "num_processes": lines[0]["run"]["num_processes"],
        "device": lines[0]["run"]["device"],
        "command": command,
        "versions": versions(),
    }


if __name__ == "__main__":
    sys.exit(main())
