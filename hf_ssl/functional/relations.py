"""How two sets of embeddings relate: the words that every objective is built from.

Letters: B images of a batch, D embedding dimensions, N anchors, M negatives of an anchor; dots are any leading axes
(heads, directions), which never mix.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hf_ssl.functional.precision import Products, full_precision, lift

STANDARDIZATIONS = ("biased", "unbiased")
BATCH_NORM_EPS = 1e-5
CHUNK_ENTRIES = 2**16  # of a temporary on a processor: stays in cache, adds nothing to the peak
ACCELERATOR_ENTRIES = 2**24  # elsewhere: enough to keep the device busy


class PairScores(NamedTuple):
    """What should match, `positive` (..., N), and what should not, `negative` (..., N, M)."""

    positive: Tensor
    negative: Tensor


@full_precision
def standardize(z: Tensor, standardization: str = "biased") -> Tensor:
    """Give every column of `z` (..., B, D) zero mean and unit variance over the batch.

    "biased" is a BatchNorm without weights: divides by B and adds 1e-5 inside the root, so that a constant column
    becomes zero. "unbiased" is `(z - mean) / std` with B - 1 and no epsilon (Barlow Twins, algorithm 1); there a
    constant column, 0 / 0 by the formula, becomes zero and passes no gradient, and a nearly constant one passes a
    very large one. Raises ValueError for an unknown name or a batch of one.
    """
    centred, inverse, _ = centre(z, standardization)
    return centred * inverse


def centre(z: Tensor, standardization: str) -> tuple[Tensor, Tensor, int]:
    """Columns of `z` (..., B, D) at zero mean, one over their standard deviations (..., 1, D), and its divisor."""
    if standardization not in STANDARDIZATIONS:
        raise ValueError(f"standardization is '{standardization}' but must be one of {STANDARDIZATIONS}.")
    batch = z.shape[-2]
    if batch < 2:
        raise ValueError(f"a batch of {batch} has no variance: standardizing needs at least two rows.")

    # Variance is blind to a shift; taking the first row away makes a constant column exactly zero, where rounding of
    # its mean would leave noise, and spares the digits of columns far from zero.
    shifted = z - z[..., :1, :].detach()
    centred = shifted - shifted.mean(dim=-2, keepdim=True)
    squares = column_products(centred, centred)
    if standardization == "biased":
        return centred, (squares / batch + BATCH_NORM_EPS).rsqrt(), batch
    varies = squares > 0
    inverse = torch.where(varies, squares / (batch - 1), 1).rsqrt() * varies
    return centred, inverse, batch - 1


def column_products(x: Tensor, y: Tensor) -> Tensor:
    """Products of corresponding columns of two matrices (..., B, D): (..., 1, D), a few rows at a time."""
    rows = rows_at_once(x.numel() // x.shape[-2], CHUNK_ENTRIES, x.device)
    chunks = zip(x.split(rows, dim=-2), y.split(rows, dim=-2), strict=True)
    total, *others = ((one * other).sum(dim=-2, keepdim=True) for one, other in chunks)
    return sum(others, start=total)


def rows_at_once(width: int, entries: int, device: torch.device) -> int:
    """How many rows of `width` entries a temporary may have: `entries` in all on a processor, many elsewhere."""
    return max(1, (entries if device.type == "cpu" else ACCELERATOR_ENTRIES) // width)


@full_precision
def normalize(z: Tensor) -> Tensor:
    """Scale every row of `z` (..., B, D) to unit length; a zero row stays zero."""
    return z * inverse_length(z)


def inverse_length(z: Tensor) -> Tensor:
    """One over the length of every row of `z` (..., B, D): (..., B, 1); lengths under 1e-12 count as that."""
    return 1 / torch.linalg.vector_norm(z, dim=-1, keepdim=True).clamp_min(1e-12)


@full_precision
def inner_products(a: Tensor, b: Tensor) -> Tensor:
    """Products of every row of `a` (..., N, D) with every row of `b` (..., M, D): (..., N, M)."""
    return Products.apply(a, b)


def split_diagonal(matrix: Tensor) -> PairScores:
    """Part a relation (..., N, N) of a set with its counterpart into N matches and N (N - 1) others, rows kept."""
    size = matrix.shape[-1]
    off = matrix.flatten(-2)[..., 1:].unflatten(-1, (size - 1, size + 1))[..., :-1]
    return PairScores(matrix.diagonal(dim1=-2, dim2=-1), off.reshape(*matrix.shape[:-2], size, size - 1))


def split_views(matrix: Tensor) -> PairScores:
    """Part the relation (..., 2B, 2B) of two stacked views with themselves: each row against its other view.

    Gives 2B matches, and for each the 2B - 2 rows of other images, those of its own view first.
    """
    (aa, ab), (ba, bb) = (half.chunk(2, dim=-1) for half in matrix.chunk(2, dim=-2))
    own, other = (split_diagonal(aa), split_diagonal(bb)), (split_diagonal(ab), split_diagonal(ba))
    negative = [torch.cat([own[view].negative, other[view].negative], dim=-1) for view in (0, 1)]
    return PairScores(torch.cat([half.positive for half in other], dim=-1), torch.cat(negative, dim=-2))


def logits(scores: PairScores, temperature: PairScores | float | None) -> PairScores:
    """Scores in float32 or better over their temperatures: numbers, or shaped like the scores; None is one."""
    positive, negative = map(lift, scores)
    if temperature is None:
        return PairScores(positive, negative)
    if not isinstance(temperature, PairScores):
        return PairScores(positive / temperature, negative / temperature)
    return PairScores(positive / temperature.positive, negative / temperature.negative)


def same_shape(**tensors: Tensor) -> None:
    """Raise ValueError unless all tensors have one shape; broadcasting would silently compare the wrong rows."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "these must have one shape: " + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        )
