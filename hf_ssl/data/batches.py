"""Endless batches of training images: what is decoded when, by whom, and where it lives.

Images that all share one size of at most 96 pixels are decoded once and travel whole; their crops are cut on the
training device. Larger images are decoded every epoch by workers, which cut both crops and send only those. A stream
is judged by its first rows. Either way a batch depends on the seed, the step and the data, not on workers or, for
map-style data, on the number of processes.
"""

import logging
import os
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from hf_ssl.augmentations import Recipe
from hf_ssl.data.assembling import Assembler, Batch, Cropper, Resident, decode_resident
from hf_ssl.data.decoding import MODES
from hf_ssl.data.order import BLOCK_ROWS, MapOrder, StreamOrder, Task
from hf_ssl.data.reading import BadImages
from hf_ssl.data.sources import Source
from hf_ssl.errors import HfSslError, UsageError
from hf_ssl.interruption import ignore_signals

logger = logging.getLogger(__name__)

__all__ = ["Batch", "Batches", "make_batches"]

MOST_WORKERS = 8
DEVICE_SHARE = 0.25  # of the device's free memory that images may take there


class Batches:
    """Batches of one process, from any step.

    steps_per_epoch: whole global batches in the data; None for a stream that nobody counted. whole: images travel
    whole, with the numbers of their crops. bad: row -> reason of the images that could not be used so far.
    """

    def __init__(
        self,
        source: Source,
        order: MapOrder | StreamOrder,
        reader: Assembler | Resident,
        bad: BadImages,
        num_workers: int,
        pin: bool,
    ) -> None:
        self._source, self._order, self._reader, self._bad, self._pin = source, order, reader, bad, pin
        self.num_workers = num_workers
        self.steps_per_epoch = order.steps_per_epoch
        self.whole = isinstance(reader, Resident) or reader.whole is not None

    @property
    def bad(self) -> dict[Any, str]:
        """Rows of images that could not be used so far, with the reason."""
        return self._bad.reasons

    def iterate(self, start_step: int = 0, position: dict[str, Any] | None = None) -> Iterator[Batch]:
        """Endless batches from step `start_step` (from 0) or, if given, from a batch's `position`.

        Of map-style data both lead to the same place at once; a stream needs the position, which belongs to this
        process.

        Raises:
            HfSslError: if more images than `max_bad_fraction` cannot be used, or a stream breaks off.

        """
        tasks = self._order.tasks(start_step, position)
        batches = self._load(tasks)
        try:
            for batch in batches:
                self._count(batch)
                yield batch
        finally:
            batches.close()
            tasks.close()

    def _load(self, tasks: Generator[Task]) -> Generator[Batch]:
        if self.num_workers == 0:
            yield from map(self._reader.__getitem__, tasks)
            return
        loader: DataLoader[Batch] = DataLoader(
            self._reader,  # type: ignore[arg-type]
            sampler=tasks,  # type: ignore[arg-type]
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            pin_memory=self._pin,
            worker_init_fn=ignore_signals,
            generator=torch.Generator(),  # so that starting it leaves torch's own generator alone
        )
        try:
            yield from loader
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            remedy = f"if memory ran out, take fewer --num_workers than {self.num_workers}"
            raise HfSslError(f"a decoding worker died ({error}); {remedy}.") from error

    def _count(self, batch: Batch) -> None:
        self._bad.seen += len(batch.rows)
        for row, reason in batch.bad:
            name = row if isinstance(row, str) else self._source.row_name(row)
            self._bad.add(row, reason, name)
        if not len(batch.images):
            raise HfSslError(
                f"Step {batch.step} found no image that can be used: {batch.bad[0][0]}: {batch.bad[0][1]}."
            )


def make_batches(
    source: Source,
    *,
    batch_size: int,
    recipe: Recipe,
    image_size: int,
    seed: int,
    process_index: int = 0,
    num_processes: int = 1,
    num_workers: int | None = None,
    channels: int = 3,
    device: torch.device | str = "cpu",
    on_device: str = "auto",
    max_bad_fraction: float = 0.01,
    block_rows: int = BLOCK_ROWS,
) -> Batches:
    """Prepare the batches of one process; `batch_size` counts the images of all processes.

    channels: 1 (grey), 3 or 4 (alpha). num_workers: decoding processes; None: as needed. on_device: "true" and, where
    it fits, "auto" keep decoded images on `device`. block_rows: of a stream, shuffled together.

    Raises:
        UsageError: if the batch does not fit the data or the processes, or an option the data.
        HfSslError: if too many images cannot be used.

    """
    refuse_batch_size(batch_size, None if source.streaming else len(source), num_processes)
    if channels not in MODES:
        raise UsageError(f"--in_chans {channels}: images are read as grey (1), colour (3) or colour and alpha (4).")
    share = batch_size // num_processes
    cropper = Cropper(recipe, image_size, batch_size, slice(process_index * share, (process_index + 1) * share), seed)
    bad = BadImages(max_bad_fraction, None if source.streaming else len(source))
    place = (batch_size, process_index, num_processes, seed)
    pin = torch.device(device).type == "cuda"
    workers = default_workers(num_processes) if num_workers is None else num_workers
    if source.streaming:
        if on_device == "true":
            raise UsageError("--data_on_device true needs all images at hand; a stream has none of them ahead.")
        whole = source.small_size(channels)
        reader = Assembler(source, cropper, channels, whole, give_up=bad.allowed)
        return Batches(source, StreamOrder(source, *place, block_rows), reader, bad, workers, pin)
    order = MapOrder(len(source), *place)
    decoded = decode_resident(source, channels, bad, any_size=on_device == "true")
    if decoded is not None:
        images, takes = decoded
        logger.info("%s images of %d x %d pixels are decoded once.", f"{len(images):,}", *images.shape[2:])
        return Batches(source, order, Resident(place_images(images, device, on_device), takes, cropper), bad, 0, pin)
    if on_device == "true":
        raise UsageError("--data_on_device true needs images of one size; these differ.")
    return Batches(source, order, Assembler(source, cropper, channels, None, give_up=bad.allowed), bad, workers, pin)


def refuse_batch_size(batch_size: int, rows: int | None, num_processes: int) -> None:
    """Raise UsageError for a batch that cannot be trained on, naming the nearest size that can."""
    if batch_size < 2:
        raise UsageError(
            f"--batch_size {batch_size}: BatchNorm and every objective here compare the images of a batch with each "
            "other, so a batch of one cannot be trained on; use at least 2, better 64 or more."
        )
    largest = None if rows is None else rows - rows % num_processes
    if largest is not None and batch_size > largest:
        fits = f"the largest that fits is {largest}" if largest > 1 else "more images are needed"
        raise UsageError(f"--batch_size {batch_size} is larger than the {rows} images there are; {fits}.")
    if batch_size % num_processes:
        below = batch_size - batch_size % num_processes
        near = [size for size in (below, below + num_processes) if size >= 2 and (largest is None or size <= largest)]
        nearest = min(near, key=lambda size: abs(size - batch_size))
        raise UsageError(
            f"--batch_size {batch_size} cannot be shared equally by {num_processes} processes; the nearest that can "
            f"is {nearest}."
        )


def default_workers(num_processes: int) -> int:
    """One decoding process per core that the training processes leave, within 1 and 8."""
    return max(1, min(MOST_WORKERS, (os.cpu_count() or 1) // num_processes - 1))


def place_images(images: torch.Tensor, device: torch.device | str, on_device: str) -> torch.Tensor:
    """Put decoded images where `on_device` wants them."""
    device = torch.device(device)
    if on_device == "auto" and device.type == "cuda":
        on_device = "true" if images.nbytes <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0] else "false"
    return images.to(device) if on_device == "true" else images


def _as_it_is(batch: Any) -> Any:
    return batch
