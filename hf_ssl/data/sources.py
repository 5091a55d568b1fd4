"""One split of images, wherever it comes from: an embedded set, a local folder, or the Hub.

A `Source` knows which column holds the images and hands them out undecoded, so nothing here depends on sizes or modes.
Labels stay apart: `labels()` is for probes and evaluation, and training never calls it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import torch
from torch import Tensor

from hf_ssl.data.columns import find_image_column, find_label_column, is_encoded
from hf_ssl.data.decoding import BadImage, decode, encoded_bytes
from hf_ssl.data.naming import describe_row, file_name
from hf_ssl.data.opening import open_splits
from hf_ssl.data.splits import select_split, select_stream
from hf_ssl.errors import UsageError

SMALL_SIDE = 96  # pixels: images of one size up to this are decoded once and cropped on the device
SAMPLE, FINGERPRINT_ROWS = 32, 256  # rows that stand for the whole: for its size, and for its content
CHUNK = 1000  # rows read at once where all rows are gone through


@dataclass(frozen=True)
class Source:
    """Rows of images with an order: `dataset` is a `datasets` split whose image column is not decoded.

    known_rows: the number of rows of a stream, where its makers or files tell it. root: the folder, of a local one.
    renumbered: the class that each stored number stands for, where that is another number.
    """

    dataset: Any
    image_column: str
    label_column: str | None
    class_names: tuple[str, ...] | None
    name: str
    config: str | None
    split: str
    streaming: bool = False
    root: Path | None = None
    known_rows: int | None = None
    renumbered: tuple[int, ...] | None = None

    def __len__(self) -> int:
        if self.streaming:
            raise TypeError("a stream has no length; see num_rows")
        return len(self.dataset)

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None for a stream that nobody counted."""
        return self.known_rows if self.streaming else len(self.dataset)

    @property
    def is_encoded(self) -> bool:
        """Whether the images are stored as files, not as arrays."""
        return is_encoded(self.dataset.features[self.image_column])

    @cached_property
    def _reader(self) -> Any:
        kind = {"type": "arrow"} if self.is_encoded else {"type": "numpy", "dtype": np.uint8}
        return self.dataset.with_format(columns=[self.image_column], **kind)

    def images(self, rows: Sequence[int]) -> list[Any]:
        """Undecoded images of map-style rows, as `decode` takes them."""
        read = self._reader[list(rows)]
        return read.column(self.image_column).to_pylist() if self.is_encoded else list(read[self.image_column])

    def first_images(self, count: int) -> list[Any]:
        """Undecoded images of the first rows, of a stream too."""
        if not self.streaming:
            return self.images(range(min(count, len(self))))
        return [row[self.image_column] for row in islice(self.dataset.select_columns([self.image_column]), count)]

    def file_names(self) -> Iterator[str | None]:
        """Name of each row's file, relative to the folder, in order; None where a row knows none. Map-style."""
        for start in range(0, len(self), CHUNK):
            rows = range(start, min(start + CHUNK, len(self)))
            yield from (self.file_name(value) for value in self.images(rows))

    def file_name(self, value: Any) -> str | None:
        """Name of the file that an undecoded image came from, within the folder; never an absolute path."""
        return file_name(value, self.root)

    def row_name(self, row: int) -> str:
        """Index of a map-style row and, where it has one, its file: "17 (cats/003.png)"."""
        return describe_row(row, self.file_name(self.images([row])[0]))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits from the number of rows and the content of 256 evenly spaced ones (a stream: its first 32).

        Equal for equal data on any machine; names and paths play no part.
        """
        digest = hashlib.sha256(str(self.num_rows).encode())
        if self.streaming:
            values = self.first_images(SAMPLE)
        else:
            values = self.images(np.linspace(0, len(self) - 1, min(len(self), FINGERPRINT_ROWS)).astype(int).tolist())
        for value in values:
            try:
                digest.update(value.tobytes() if isinstance(value, np.ndarray) else encoded_bytes(value))
            except BadImage as error:
                digest.update(str(error).encode())
        return digest.hexdigest()[:16]

    def labels(self) -> Tensor:
        """Class of every row, int64 (N,), -1 where a row has none.

        Raises:
            UsageError: if there is no label column, or the source is a stream.

        """
        if self.label_column is None or self.streaming:
            why = "is a stream" if self.streaming else f"has no labels among {', '.join(self.dataset.features)}"
            raise UsageError(f"'{self.name}' ({self.split}) {why}; labels are needed here.")
        column = self.dataset.with_format("arrow", columns=[self.label_column])[:].column(self.label_column)
        if pa.types.is_integer(column.type):
            stored = torch.from_numpy(column.fill_null(-1).to_numpy().astype(np.int64))
            return stored if self.renumbered is None else torch.tensor([*self.renumbered, -1])[stored]
        index = {name: number for number, name in enumerate(self.class_names or ())}
        return torch.tensor([index.get(value, -1) for value in column.to_pylist()], dtype=torch.int64)

    @property
    def num_classes(self) -> int:
        """Number of classes: those named, else one more than the largest label."""
        return len(self.class_names) if self.class_names else int(self.labels().max()) + 1

    def select(self, rows: Sequence[int]) -> "Source":
        """Map-style source of some rows: row i of it is row rows[i] of this one."""
        return replace(self, dataset=self.dataset.select(rows))

    def common_size(self, channels: int = 3) -> int | None:
        """Longer side in pixels if the first images share one size of at most 96 pixels, else None."""
        size = self.small_size(channels)
        return max(size) if size else None

    def small_size(self, channels: int = 3) -> tuple[int, int] | None:
        """Size (H, W) that the first images share, if it is at most 96 pixels, else None."""
        sizes = set()
        for value in self.first_images(SAMPLE):
            try:
                _, height, width = decode(value, channels).shape
            except BadImage:
                continue
            sizes.add((height, width))
        size = next(iter(sizes)) if len(sizes) == 1 else None
        return size if size and max(size) <= SMALL_SIDE else None


def open_source(
    name: str,
    *,
    config: str | None = None,
    split: str = "train",
    image_column: str | None = None,
    label_column: str | None = None,
    streaming: bool = False,
) -> Source:
    """Open one split of a data set: an embedded name ("photos", "digits"), a local folder, or a Hub id.

    A local folder never touches the network. The image column is found by its type where `image_column` is None.

    Raises:
        UsageError: if the folder, configuration, split or column does not exist, naming what does.
        HfSslError: if the data cannot be reached or read.

    """
    opened = open_splits(name, config, streaming)
    if streaming:
        dataset = select_stream(opened.splits, split)
        dataset = dataset if dataset.features is not None else dataset._resolve_features()
    else:
        dataset = select_split(opened.splits, split)
    features = dataset.features
    image_column = find_image_column(features, image_column)
    label_column = find_label_column(features, label_column)
    names = getattr(features[label_column], "names", None) if label_column else None
    if label_column and not streaming and names is None and "string" in str(features[label_column].dtype):
        names = sorted({value for value in dataset.unique(label_column) if value is not None})
    if is_encoded(features[image_column]):
        dataset = dataset.cast_column(image_column, datasets.Image(decode=False))
    return Source(
        dataset,
        image_column,
        label_column,
        tuple(names) if names else None,
        *(name, config, split, streaming),
        root=opened.root,
        known_rows=opened.rows.get(split) if streaming else None,
    )
