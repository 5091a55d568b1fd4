"""Decoding rows one after the other, and keeping account of those that cannot be decoded."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from hf_ssl.data.decoding import BadImage, decode
from hf_ssl.data.sources import Source
from hf_ssl.errors import HfSslError

logger = logging.getLogger(__name__)

CHUNK = 256  # rows read at once
LEAST_ROWS = 1000  # of a stream, before a share of bad ones means something


@dataclass
class BadImages:
    """Bad images met so far: each is named once, and too many of them stop the run.

    rows: the number of rows, against which the share is taken; None: the rows seen so far. A single bad image never
    stops a run, unless `max_bad_fraction` is 0.
    """

    max_bad_fraction: float
    rows: int | None
    reasons: dict[int | str, str] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)
    seen: int = 0

    @property
    def allowed(self) -> int:
        """How many bad images a run may meet."""
        rows = max(self.seen, LEAST_ROWS) if self.rows is None else self.rows
        return max(1, int(self.max_bad_fraction * rows)) if self.max_bad_fraction > 0 else 0

    def add(self, row: int | str, reason: str, name: str) -> None:
        """Count the image of `row`, called `name` in messages.

        Raises:
            HfSslError: if there are more than `max_bad_fraction` now, with the first three.

        """
        if row in self.reasons:
            return
        self.reasons[row] = reason
        self.named.append(f"{name}: {reason}")
        logger.warning("Image %s cannot be used: %s.", name, reason)
        if len(self.reasons) > self.allowed:
            of = f"of {self.rows:,} images" if self.rows is not None else f"of the first {self.seen:,} images"
            raise HfSslError(
                f"{len(self.reasons)} {of} cannot be used, more than --max_bad_fraction {self.max_bad_fraction} "
                f"allows; the first are {'; '.join(self.named[:3])}."
            )


class Decoded(NamedTuple):
    """One readable image: uint8 (C, H, W), and its row."""

    image: Tensor
    row: int


def decode_all(
    source: Source, channels: int = 3, rows: Sequence[int] | None = None, max_bad_fraction: float = 0.01
) -> Iterator[Decoded]:
    """Decode map-style rows (default: all) in order; bad images are left out, counted and named.

    Raises:
        HfSslError: if more than `max_bad_fraction` of the rows are bad.

    """
    rows = range(len(source)) if rows is None else rows
    yield from decode_counted(source, channels, rows, BadImages(max_bad_fraction, len(rows)))


def decode_counted(source: Source, channels: int, rows: Sequence[int], bad: BadImages) -> Iterator[Decoded]:
    """Decode rows in order as `decode_all`, with the account `bad` of the caller."""
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        for row, value in zip(chunk, source.images(chunk), strict=True):
            try:
                yield Decoded(decode(value, channels), row)
            except BadImage as error:
                bad.add(row, str(error), source.row_name(row))


def image_at(source: Source, index: int, channels: int = 3) -> Tensor:
    """Decode one map-style row: uint8 (channels, H, W).

    Raises:
        BadImage: if it cannot be read.

    """
    return decode(source.images([index])[0], channels)
