"""From a task to a batch: what decoding workers do, and what replaces it when all images are decoded beforehand.

A bad image never leaves a hole. Of a map-style source the next good row by index takes its place, of a stream the
good image before it in the batch (the first: after it), so neither workers nor processes change what is trained on.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_ssl.augmentations import Recipe, cut_crops, draw_crops
from hf_ssl.data.decoding import BadImage, decode
from hf_ssl.data.order import Task
from hf_ssl.data.reading import BadImages, decode_counted
from hf_ssl.data.sources import SMALL_SIDE, Source
from hf_ssl.errors import HfSslError
from hf_ssl.seeds import step_generator

logger = logging.getLogger(__name__)

RESIDENT_BYTES = 4 * 2**30  # of decoded pixels, more are decoded as they are needed
REPORT_ROWS = 20_000  # between two words about progress


@dataclass
class Batch:
    """One step's images on one process.

    images: uint8 (b, C, H, W), whole, with `crops`, the uniform numbers (b, 2, K) of their two crops; or
    (b, 2, C, size, size), already cut, with `crops` None. rows: where each image came from (an index; of a stream,
    "index (file)"). step: of the run, from 0. position: where the data stands after this batch, ready for JSON.
    bad: rows that could not be used, and why.
    """

    images: Tensor
    crops: Tensor | None
    rows: list[Any]
    epoch: int
    step: int
    position: dict[str, Any]
    bad: list[tuple[Any, str]]

    def pin_memory(self) -> "Batch":
        """Copy the images to page-locked memory, from where they reach the device without waiting."""
        return replace(self, images=self.images.pin_memory())


@dataclass
class Cropper:
    """The crops of every step, drawn for all B rows of the global batch; a process keeps its `share`."""

    recipe: Recipe
    image_size: int
    batch_size: int
    share: slice
    seed: int

    def draw(self, step: int) -> Tensor:
        """Uniform numbers of this process's crops at a step: (b, 2, K)."""
        return draw_crops(self.recipe, self.batch_size, step_generator(self.seed, step, "crops"))[self.share]


@dataclass
class Assembler:
    """Decodes each task's images; called in workers, with nothing shared between calls.

    whole: images travel whole, all of the size of the first; otherwise their crops are cut here. give_up: bad images
    in a row after which a batch comes back empty, because the run will stop anyway.
    """

    source: Source
    cropper: Cropper
    channels: int
    whole: tuple[int, int] | None
    give_up: int

    def __getitem__(self, task: Task) -> Batch:
        values = self.source.images(task.rows) if task.values is None else task.values
        crops, bad = self.cropper.draw(task.step), []
        images: list[Tensor | None] = []
        rows = list(task.rows)
        for slot, value in enumerate(values):
            image, failed = self._try(value, rows[slot])
            bad += failed
            if image is None and task.values is None:
                image, rows[slot], failed = self._next_good(rows[slot])
                bad += failed
            if image is not None and not self.whole:
                image = cut_crops(image, crops[slot], self.cropper.recipe, self.cropper.image_size)
            images.append(image)
        good = [slot for slot, image in enumerate(images) if image is not None]
        if not good or (len(good) < len(images) and task.values is None):
            return Batch(torch.empty(0), None, rows, task.epoch, task.step, task.position, bad)
        sources = [max((g for g in good if g <= slot), default=good[0]) for slot in range(len(images))]
        stacked = torch.stack([images[slot] for slot in sources])  # type: ignore[misc]
        rows = [rows[slot] for slot in sources]
        return Batch(stacked, crops if self.whole else None, rows, task.epoch, task.step, task.position, bad)

    def _try(self, value: Any, row: Any) -> tuple[Tensor | None, list[tuple[Any, str]]]:
        try:
            image = decode(value, self.channels)
        except BadImage as error:
            return None, [(row, str(error))]
        size = tuple(image.shape[1:])
        if self.whole and size != self.whole:
            expected = "{} x {}".format(*self.whole)
            return None, [(row, f"{size[0]} x {size[1]} pixels in a stream of {expected}")]
        return image, []

    def _next_good(self, row: int) -> tuple[Tensor | None, int, list[tuple[Any, str]]]:
        bad: list[tuple[Any, str]] = []
        for step in range(1, min(len(self.source), self.give_up + 2)):
            candidate = (row + step) % len(self.source)
            image, failed = self._try(self.source.images([candidate])[0], candidate)
            bad += failed
            if image is not None:
                return image, candidate, bad
        return None, row, bad


@dataclass
class Resident:
    """All images of a source, decoded once: uint8 (N, C, H, W), in memory or on the training device.

    takes: int64 (N,), the row that each row stands for: itself, or the next good one.
    """

    images: Tensor
    takes: np.ndarray
    cropper: Cropper

    def __getitem__(self, task: Task) -> Batch:
        rows = self.takes[task.rows]
        images = self.images.index_select(0, torch.from_numpy(rows).to(self.images.device))
        crops = self.cropper.draw(task.step)
        return Batch(images, crops, rows.tolist(), task.epoch, task.step, task.position, [])


def decode_resident(
    source: Source, channels: int, bad: BadImages, any_size: bool = False
) -> tuple[Tensor, np.ndarray] | None:
    """Decode a whole map-style source: its images and `Resident.takes`.

    None if the images differ in size or, unless `any_size`, are larger than 96 pixels or more than 4 GiB.

    Raises:
        HfSslError: if too many images are bad.

    """
    images: Tensor | None = None
    good: list[int] = []
    for image, row in decode_counted(source, channels, range(len(source)), bad):
        if images is None:
            fits = max(image.shape[1:]) <= SMALL_SIDE and len(source) * image.numel() <= RESIDENT_BYTES
            if not (fits or any_size):
                return None
            images = torch.empty((len(source), *image.shape), dtype=torch.uint8)
        if image.shape != images.shape[1:]:
            return None
        images[row] = image
        good.append(row)
        if len(good) % REPORT_ROWS == 0:
            logger.info("Decoded %s of %s images.", f"{len(good):,}", f"{len(source):,}")
    if images is None:
        raise HfSslError(f"None of the {len(source)} images of '{source.name}' can be used.")
    return images, next_good_rows(np.array(good), len(source))


def next_good_rows(good: np.ndarray, length: int) -> np.ndarray:
    """For each of `length` rows the first of the sorted `good` rows from it on, the first of all after the last."""
    return good[np.searchsorted(good, np.arange(length)) % len(good)]
