"""Training states on disk: complete or absent, found again by themselves, checked before they are trusted.

A state is written to a hidden folder, flushed, given a manifest of sizes and checksums, and renamed; so a folder
called `step-00000100` is whole, and a crash or a full disk leaves the previous one as it was.
"""

import errno
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from hf_ssl.errors import HfSslError, UsageError
from hf_ssl.files import read_json, sha256, sync_folder, write_json

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
STATE = "trainer.json"
POSITION = "position-{}.json"  # one for each process


def save(accelerator: Accelerator, folder: Path, state: dict[str, Any], position: Any, keep_last: int) -> Path:
    """Write the whole training state after step `state["step"]` below `folder`; every process takes part.

    `position` is this process's place in the data.

    Raises:
        HfSslError: if the disk is full; earlier checkpoints stay as they were.

    """
    final = folder / f"step-{state['step']:08d}"
    partial = folder / f".{final.name}.tmp"

    def write() -> None:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial))
        write_json(partial / POSITION.format(accelerator.process_index), position)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_json(partial / STATE, state)
            files = sorted(path for path in partial.rglob("*") if path.is_file())
            manifest = {
                str(path.relative_to(partial)): {"size": path.stat().st_size, "sha256": sha256(path)} for path in files
            }
            write_json(partial / MANIFEST, manifest)
            sync_folder(partial)
            partial.rename(final)
            prune(folder, keep_last)
        accelerator.wait_for_everyone()

    guarded(write, partial)
    return final


def guarded(write: Callable[[], None], partial: Path) -> None:
    """Run `write`; if the disk is full remove what it left at `partial` and say so.

    Raises:
        HfSslError: naming the folder, if there was no space.

    """
    try:
        write()
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HfSslError(
                f"The disk that holds {partial.parent} is full: nothing that was saved before is lost; free some "
                "space and give the same command again to go on from there."
            ) from error
        raise
    except RuntimeError as error:  # torch and safetensors report a full disk in their own words
        shutil.rmtree(partial, ignore_errors=True)
        if "space" in str(error).lower() or "write" in str(error).lower():
            raise HfSslError(f"A checkpoint could not be written to {partial.parent}: {error}.") from error
        raise


def prune(folder: Path, keep_last: int) -> None:
    """Remove all but the newest `keep_last` checkpoints, and what interrupted saves left behind."""
    for old in checkpoints(folder)[:-keep_last]:
        shutil.rmtree(old)
    for torn in folder.glob(".step-*.tmp"):
        shutil.rmtree(torn, ignore_errors=True)


def discard_after(folder: Path, step: int) -> None:
    """Remove checkpoints of later steps than `step`: torn ones, or those of a path that is left."""
    for later in checkpoints(folder):
        if steps_done(later) > step:
            shutil.rmtree(later)


def steps_done(checkpoint: Path) -> int:
    """Optimizer steps after which a checkpoint was written, from its name."""
    return int(checkpoint.name.removeprefix("step-"))


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def newest(folder: Path) -> Path | None:
    """The newest checkpoint below `folder`, unchecked."""
    return next(reversed(checkpoints(folder)), None)


def fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is exactly what was written."""
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        return "it has no manifest"
    try:
        entries = read_json(manifest)
    except ValueError:
        return "its manifest cannot be read"
    for name, entry in entries.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"] or sha256(path) != entry["sha256"]:
            return f"{name} is not what was written"
    return None


def find(folder: Path) -> Path | None:
    """The newest whole checkpoint below `folder`; torn ones are passed over with a sentence."""
    for checkpoint in reversed(checkpoints(folder)):
        reason = fault(checkpoint)
        if reason is None:
            return checkpoint
        logger.warning("Checkpoint %s is passed over: %s.", checkpoint.name, reason)
    return None


def restore(accelerator: Accelerator, checkpoint: Path) -> tuple[dict[str, Any], Any]:
    """Load a state into what `accelerator` has prepared: -> (state, this process's place in the data).

    A process that was not there before gets the place of process 0, which is right for map-style data; a stream
    refuses a place that is not its own.

    Raises:
        UsageError: if the checkpoint is torn.

    """
    reason = fault(checkpoint)
    if reason is not None:
        raise UsageError(f"The checkpoint {checkpoint} cannot be used: {reason}.")
    accelerator.load_state(str(checkpoint))
    own, first = (checkpoint / POSITION.format(index) for index in (accelerator.process_index, 0))
    return read_json(checkpoint / STATE), read_json(own if own.is_file() else first)
