"""Features: the representations of a whole split, computed once and shared by every protocol.

Nothing here knows a method. It takes `encode`, any callable from normalised images (b, C, S, S) to representations
(b, F): a model in training, a published one, timm's supervised weights, or the raw pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hf_ssl.data import Decoded, Source, decode_all
from hf_ssl.errors import HfSslError, UsageError
from hf_ssl.preprocessing import Preprocess

Encode = Callable[[Tensor], Tensor]

UNKNOWN = -1  # the label of an image that has none, as `datasets` writes it
NO_LABELS = "This protocol needs labels and the images have none: name another split or --label_column."


class Prepared(NamedTuple):
    """Images of one forward pass, resized and cut: uint8 (b, C, S, S), their labels (`UNKNOWN` if none) and rows."""

    images: Tensor
    labels: list[int]
    rows: list[int]


@dataclass(frozen=True)
class Features:
    """Representations of a split: float32 (N, F) on the CPU, int64 labels (N,) where known, and their rows."""

    embeddings: Tensor
    labels: Tensor | None
    rows: list[int]

    def known_labels(self) -> Tensor:
        """Return the labels.

        Raises:
            UsageError: if some are missing; `labelled` leaves those rows out.

        """
        if self.labels is None or bool((self.labels < 0).any()):
            raise UsageError(NO_LABELS)
        return self.labels

    def labelled(self) -> "Features":
        """Return the rows whose label is known.

        Raises:
            UsageError: if there are none.

        """
        known = [] if self.labels is None else (self.labels >= 0).nonzero()[:, 0].tolist()
        if self.labels is None or not known:
            raise UsageError(NO_LABELS)
        if len(known) == len(self.rows):
            return self
        return Features(self.embeddings[known], self.labels[known], [self.rows[place] for place in known])


def extract(
    encode: Encode,
    source: Source,
    preprocess: Preprocess,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Features:
    """Represent the images of `source`, or a seeded choice of `limit` of them; unreadable ones are left out.

    Raises:
        HfSslError: if no image can be read, or representations are not finite.

    """
    batches = prepare(source, preprocess, batch_size=batch_size, device=device, limit=limit, seed=seed)
    total = -(-min(len(source), limit or len(source)) // batch_size)
    return represent(encode, tqdm(batches, total=total, desc="features", disable=not progress), preprocess)


def seeded_rows(length: int, limit: int | None, seed: int) -> Sequence[int]:
    """All rows of `length`, or a seeded choice of `limit` of them, in their own order."""
    if limit is None or limit >= length:
        return range(length)
    return np.sort(np.random.default_rng(seed).permutation(length)[:limit]).tolist()


def prepare(
    source: Source,
    preprocess: Preprocess,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    seed: int = 0,
) -> Iterator[Prepared]:
    """Decode, resize and cut the images of `source`, to be represented now or, kept in a list, again and again."""
    rows = seeded_rows(len(source), limit, seed)
    known = source.labels().tolist() if source.label_column else [UNKNOWN] * len(source)

    def prepared(group: list[Decoded]) -> Prepared:
        images = preprocess.cut_each([image.to(device) for image, _ in group])
        return Prepared(images, [known[row] for _, row in group], [row for _, row in group])

    group: list[Decoded] = []
    for decoded in decode_all(source, len(preprocess.mean), rows):
        group.append(decoded)
        if len(group) == batch_size:
            yield prepared(group)
            group = []
    if group:
        yield prepared(group)


@torch.no_grad()
def represent(encode: Encode, batches: Iterable[Prepared], preprocess: Preprocess) -> Features:
    """Run `encode` over prepared images.

    Raises:
        HfSslError: if there are no images, or representations are not finite.

    """
    embeddings: list[Tensor] = []
    labels: list[int] = []
    rows: list[int] = []
    for batch in batches:
        embeddings.append(encode(preprocess.normalize(batch.images)).to("cpu", torch.float32))
        labels += batch.labels
        rows += batch.rows
    if not embeddings:
        raise HfSslError("There is no readable image to represent.")
    joined = torch.cat(embeddings)
    finite = joined.isfinite().all(dim=1)
    if not finite.all():
        raise HfSslError(
            f"{int((~finite).sum())} of {len(joined)} representations are not finite numbers (the first: row "
            f"{rows[int((~finite).nonzero()[0])]}): the weights have diverged."
        )
    known = any(label >= 0 for label in labels)
    return Features(joined, torch.tensor(labels) if known else None, rows)
