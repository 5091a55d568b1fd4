"""Which images each step takes, and the position after it. The main process owns both; workers only decode.

Nothing is drawn from a global generator: the order comes from (seed, epoch), in a stream from (seed, epoch, block), so
any step can be reached again. Every order is endless, epoch after epoch, so all processes take the same number of
steps. The incomplete batch at the end of an epoch is dropped.

A stream is shuffled within blocks of some thousand rows as they come, because a running shuffle buffer cannot be
restored; a resume reads one block again, not the epoch. Data stored class by class should be shuffled before it is
streamed.

Letters: B images of the global batch, W processes, b = B / W images of this process.
"""

import logging
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
from datasets.distributed import split_dataset_by_node

from hf_ssl.data.naming import describe_row
from hf_ssl.data.sources import Source
from hf_ssl.errors import HfSslError, UsageError

logger = logging.getLogger(__name__)

BLOCK_ROWS = 2048  # of a stream that are shuffled together, at least


@dataclass
class Task:
    """One step's work for one process: rows to decode, and where the data stands once it is done.

    values: undecoded images of a stream; None where the worker reads `rows` itself.
    """

    step: int
    epoch: int
    rows: list[Any]
    values: list[Any] | None
    position: dict[str, Any]


@lru_cache(maxsize=2)
def epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    """Order of an epoch's rows: a permutation of range(length), int64, read only."""
    order = np.random.default_rng((seed, epoch)).permutation(length)
    order.flags.writeable = False
    return order


class MapOrder:
    """Order of a map-style source. Step s of an epoch takes rows s B ... (s + 1) B of its permutation.

    Process r takes rows r b ... (r + 1) b of those, so the union over processes does not depend on W, and a position
    is a step number, the same on every process.
    """

    def __init__(self, length: int, batch_size: int, process_index: int, num_processes: int, seed: int) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.share = batch_size // num_processes
        self.first = process_index * self.share
        self.steps_per_epoch = length // batch_size

    def tasks(self, start_step: int = 0, position: dict[str, Any] | None = None) -> Generator[Task]:
        """Endless tasks from `start_step`, or from a task's `position`."""
        for step in count(position["step"] if position else start_step):
            epoch, index = divmod(step, self.steps_per_epoch)
            start = index * self.batch_size + self.first
            rows = epoch_order(self.length, self.seed, epoch)[start : start + self.share].tolist()
            yield Task(step, epoch, rows, None, {"step": step + 1})


@dataclass(frozen=True)
class Place:
    """Where a process is in its stream: next step, epoch, block, batches' rows taken of it, its state at the block."""

    step: int
    epoch: int
    block: int = 0
    offset: int = 0
    state: dict[str, Any] | None = None

    def after(self, rows: int) -> "Place":
        """Place after one more step that took `rows` rows of the block."""
        return replace(self, step=self.step + 1, offset=self.offset + rows)


class StreamOrder:
    """Order of a stream: blocks as they come, rows shuffled within each.

    Processes take whole shards where W divides their number, else every W-th row. So the order depends on W, each
    process has its own positions, and one can only be resumed by the same process of as many.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        process_index: int,
        num_processes: int,
        seed: int,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        self.source, self.seed = source, seed
        self.batch_size, self.share = batch_size, batch_size // num_processes
        self.block_rows = self.share * -(-block_rows // self.share)
        self.steps_per_epoch = source.num_rows // batch_size if source.num_rows is not None else None
        shards = source.dataset.num_shards
        stream = source.dataset.select_columns([source.image_column])
        self.stream = split_dataset_by_node(stream, process_index, num_processes) if num_processes > 1 else stream
        self.owner = {"process_index": process_index, "num_processes": num_processes, "block_rows": self.block_rows}
        self.prefix = f"process {process_index}, row " if num_processes > 1 else ""
        if shards % num_processes and process_index == 0:
            logger.warning(
                "%d shards cannot be shared equally by %d processes: each reads all of them and keeps every %d. row; "
                "a number of shards that %d divides reads faster.",
                shards, num_processes, num_processes, num_processes,
            )  # fmt: skip

    def tasks(self, start_step: int = 0, position: dict[str, Any] | None = None) -> Generator[Task]:
        """Endless tasks from the beginning, or from a task's `position`; a stream cannot start at a mere step.

        Raises:
            UsageError: if the position belongs to another process or another number of processes, or a whole epoch
                does not fill one batch.
            HfSslError: if the stream breaks off.

        """
        place = self._start(start_step, position)
        while True:
            beginning = Place(place.step, place.epoch)
            whole_epoch = place == beginning
            for images, after in self._blocks(place):
                order = np.random.default_rng((self.seed, place.epoch, place.block)).permutation(len(images))
                while place.offset + self.share <= len(images):
                    chosen = order[place.offset : place.offset + self.share].tolist()
                    rows = [self._row(place.block * self.block_rows + row, images[row]) for row in chosen]
                    step, place = place.step, place.after(self.share)
                    yield Task(step, place.epoch, rows, [images[row] for row in chosen], asdict(place) | self.owner)
                place = Place(place.step, place.epoch, place.block + 1, 0, after)
            if whole_epoch and place.step == beginning.step:
                raise UsageError(
                    f"The stream '{self.source.name}' ({self.source.split}) does not fill one batch of "
                    f"{self.batch_size}{' on every process' if self.prefix else ''}; take a smaller --batch_size."
                )
            place = Place(place.step, place.epoch + 1)

    def _start(self, start_step: int, position: dict[str, Any] | None) -> Place:
        if position is not None:
            self._refuse_foreign(position)
            return Place(**{field.name: position[field.name] for field in fields(Place)})
        if start_step:
            raise UsageError(f"A stream cannot start at step {start_step} without the position saved there.")
        return Place(0, 0)

    def _blocks(self, place: Place) -> Iterator[tuple[list[Any], dict[str, Any]]]:
        """Undecoded images of each block from `place` to the end of its epoch, and the stream's state after it."""
        self.stream.set_epoch(place.epoch)  # a state counts in its own epoch only
        self.stream.load_state_dict(place.state)
        blocks = self.stream.iter(self.block_rows)
        try:
            for columns in blocks:
                yield columns[self.source.image_column], self.stream.state_dict()
        except Exception as error:  # file systems and formats each have exceptions of their own
            raise HfSslError(f"The stream '{self.source.name}' broke off in epoch {place.epoch}: {error}.") from error
        finally:
            blocks.close()  # one left open complains when the interpreter ends

    def _row(self, index: int, value: Any) -> str:
        return describe_row(f"{self.prefix}{index}", self.source.file_name(value))

    def _refuse_foreign(self, position: dict[str, Any]) -> None:
        for key, mine in self.owner.items():
            if position.get(key) != mine:
                raise UsageError(
                    f"This place in the stream was saved with {key} {position.get(key)}, not {mine}: the order of a "
                    "stream depends on it, so the run can only go on with the same."
                )
