"""The weighted vote of the nearest neighbours (Wu et al., 2018, https://huggingface.co/papers/1805.01978)."""

import math

import torch
from torch import Tensor

from hf_ssl.functional.precision import full_precision

BLOCK_ENTRIES = 2**25  # similarities held at once, 128 MB in float32: smaller products are slower


@torch.no_grad()
@full_precision
def knn_predict(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, k: int, temperature: float, num_classes: int
) -> Tensor:
    """Score every class by the sum of exp(similarity / temperature) over the k most similar rows of the bank.

    `bank` (N, F) and `queries` (Q, F) have unit rows and live on one device with `bank_labels` (N,) int64 in
    [0, num_classes). Returns scores (Q, num_classes). Of equally similar rows the lower index is the nearer one.
    Works through blocks of queries, so memory does not grow with Q x N.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k is {k} but the bank has {len(bank)} rows.")
    if not temperature * math.log(torch.finfo(queries.dtype).max / k) > 1:
        raise ValueError(
            f"temperature is {temperature}, but {k} votes of exp(1 / temperature) must be finite numbers."
        )
    block = max(1, BLOCK_ENTRIES // len(bank))
    scores = queries.new_zeros(len(queries), num_classes)
    for rows, out in zip(queries.split(block), scores.split(block), strict=True):
        similarity = rows @ bank.mT
        nearest, indices = _nearest(similarity, k)
        out.scatter_add_(1, bank_labels[indices], (nearest / temperature).exp_())
    return scores


def _nearest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and indices (Q, k) of the largest entries of each row (Q, N), lower indices first among equals."""
    if k == similarity.shape[1]:
        return similarity, torch.arange(k, device=similarity.device).expand_as(similarity)
    values, indices = similarity.topk(k + 1, sorted=True)
    values, indices, beyond = values[:, :k], indices[:, :k], values[:, k]
    # topk picks freely among equals; that matters only where the k-th value equals the one left out.
    (unclear,) = torch.nonzero(values[:, -1] == beyond, as_tuple=True)
    if len(unclear):
        rows, last = similarity[unclear], beyond[unclear, None]
        above, equal = rows > last, rows == last
        chosen = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= k - above.sum(1, keepdim=True)))
        indices[unclear] = chosen.nonzero()[:, 1].view(-1, k)
        values = similarity.gather(1, indices)
    return values, indices
