"""What a run leaves on disk beside its weights: log.jsonl, cut back when it goes on, and status.json."""

import json
from pathlib import Path

from accelerate import Accelerator

from hf_ssl.files import write_json, write_text


def write_status(
    folder: Path,
    accelerator: Accelerator,
    state: str,
    step: int,
    checkpoint: Path | None,
    exit_code: int | None = None,
    message: str = "",
) -> None:
    """Replace status.json, from which a requeue script reads what to do; state: running, stopped, done or failed."""
    if accelerator.is_main_process:
        write_json(
            folder / "status.json",
            {
                "state": state,
                "step": step,
                "checkpoint": checkpoint and f"checkpoints/{checkpoint.name}",
                "exit_code": exit_code,
                "message": message,
                "num_processes": accelerator.num_processes,
            },
        )


def drop_lines_after(log: Path, step: int) -> None:
    """Remove from a log what an interrupted run wrote after the step it goes on from."""
    if not log.is_file():
        return
    kept = []
    for text in log.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # the line that was being written when the run was killed
        if line.get("step", 0) <= step:
            kept.append(text)
    write_text(log, "".join(text + "\n" for text in kept))
