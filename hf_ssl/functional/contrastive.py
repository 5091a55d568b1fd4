"""Contrast of images: an image's other view should be found among other images, or simply be alike.

NT-Xent (SimCLR, Chen et al., 2020, https://huggingface.co/papers/2002.05709), MoCo (He et al., 2020,
https://huggingface.co/papers/1911.05722) and its third version (Chen et al., 2021,
https://huggingface.co/papers/2104.02057) are one cross-entropy, `info_nce`, over different candidates. SimSiam (Chen
and He, 2021, https://huggingface.co/papers/2011.10566) has no negatives.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from hf_ssl.functional.closed_form import closed_form_by_head
from hf_ssl.functional.precision import full_precision
from hf_ssl.functional.relations import (
    PairScores,
    inner_products,
    inverse_length,
    logits,
    normalize,
    rows_at_once,
    same_shape,
    split_diagonal,
    split_views,
)

BLOCK_ENTRIES = 2**19  # similarities held at once on a processor: they stay in its cache


def info_nce(scores: PairScores, temperature: PairScores | float | None) -> Tensor:
    """Cross-entropy of finding each match among itself and its negatives, mean over the anchors: -> (...).

    Temperatures are numbers or shaped like the scores, (..., N) and (..., N, M).
    """
    positive, negative = logits(scores, temperature)
    return (torch.logaddexp(positive, negative.logsumexp(dim=-1)) - positive).mean(dim=-1)


@full_precision
def nt_xent(z_a: Tensor, z_b: Tensor, temperature: float | Tensor) -> Tensor:
    """SimCLR's objective (eq. 1), mean over all 2B views of (..., B, D) twice as anchors: -> (...).

    Each view is to be told from the 2B - 2 views of other images. Rows are scaled to unit length here.
    `temperature` is a number, or a tensor that broadcasts to (..., 2B, 2B) for view a's rows stacked on view b's. With
    a number, or a 0-dimensional tensor that wants no gradient, memory grows with B alone. Raises ValueError for two
    shapes or a number that is not positive.
    """
    same_shape(z_a=z_a, z_b=z_b)
    refuse_temperature(temperature)
    if isinstance(temperature, Tensor):
        temperature = temperature.to(z_a.device)
    if not isinstance(temperature, Tensor) or is_constant(temperature):
        return closed_form_by_head(partial(nt_xent_form, temperature=temperature), z_a, z_b)
    items = normalize(torch.cat([z_a, z_b], dim=-2))
    scores = inner_products(items, items)
    if temperature.ndim == 0:  # divides as it is; expanded and parted it would be as large as the scores
        return info_nce(PairScores(*(parted / temperature for parted in split_views(scores))), None)
    return info_nce(split_views(scores), split_views(temperature.expand(scores.shape)))


def refuse_temperature(temperature: float | Tensor) -> None:
    """Raise ValueError for a number that is not positive; a tensor is not read, which would wait for its device."""
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"temperature must be positive, but is {temperature}.")


def is_constant(temperature: Tensor) -> bool:
    """Whether `temperature` is one number through which no gradient is asked for."""
    return temperature.ndim == 0 and not (temperature.requires_grad and torch.is_grad_enabled())


@full_precision
def moco(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """MoCo's objective (eq. 1): `query` (..., B, D) against its `key` and `queue` (..., D, K), mean over B: -> (...).

    Query and key are scaled to unit length here; the queue holds unit columns. Key and queue are constants. Raises
    ValueError for shapes that do not fit or a temperature that is not positive.
    """
    same_shape(query=query, key=key)
    if queue.shape[:-1] != (*query.shape[:-2], query.shape[-1]):  # one queue would broadcast over all heads
        raise ValueError(
            f"queue {tuple(queue.shape)} does not fit query {tuple(query.shape)}: (..., D, K) goes with (..., B, D)."
        )
    refuse_temperature(temperature)
    return info_nce(queue_scores(normalize(query), normalize(key.detach()), queue.detach()), temperature)


def queue_scores(query: Tensor, key: Tensor, queue: Tensor) -> PairScores:
    """Unit rows (..., B, D) twice against each other and against `queue` (..., D, K): (..., B), (..., B, K)."""
    return PairScores((query * key).sum(dim=-1), inner_products(query, queue.mT))


@full_precision
def moco_v3(query_a: Tensor, query_b: Tensor, key_a: Tensor, key_b: Tensor, temperature: float) -> Tensor:
    """MoCo v3's objective (algorithm 1): each view's query against the other's keys, (..., B, D) each: -> (...).

    The sum of both directions, times 2 `temperature`. Rows are scaled to unit length here; keys are constants. Raises
    ValueError for several shapes or a temperature that is not positive.
    """
    same_shape(query_a=query_a, query_b=query_b, key_a=key_a, key_b=key_b)
    refuse_temperature(temperature)
    costs = [
        info_nce(split_diagonal(inner_products(normalize(query), normalize(key.detach()))), temperature)
        for query, key in ((query_a, key_b), (query_b, key_a))
    ]
    return 2 * temperature * (costs[0] + costs[1])


@full_precision
def simsiam(prediction_a: Tensor, prediction_b: Tensor, z_a: Tensor, z_b: Tensor) -> Tensor:
    """SimSiam's objective (eq. 4): minus the cosine of each prediction with the other view, (..., B, D): -> (...).

    The mean of both directions and over B. `z_a` and `z_b` are constants.
    """
    same_shape(prediction_a=prediction_a, prediction_b=prediction_b, z_a=z_a, z_b=z_b)
    cosines = [
        (normalize(prediction) * normalize(z.detach())).sum(dim=-1)
        for prediction, z in ((prediction_a, z_b), (prediction_b, z_a))
    ]
    return -(cosines[0] + cosines[1]).mean(dim=-1) / 2


@full_precision
def mix_similarity(
    z_mix: Tensor,
    z_a: Tensor,
    z_b: Tensor,
    alpha: float | Tensor,
    permutation: Tensor,
    references: Sequence[Tensor],
) -> Tensor:
    """Mixed Barlow Twins' idea over images: (..., B, D) thrice -> (...).

    A mixed image should be like each of the `references` (..., B, D) as the same mixture of its sources is; the mean
    of squared differences over the B x B pairs, summed over the references. All rows are scaled to unit length here.
    """
    same_shape(z_mix=z_mix, z_a=z_a, z_b=z_b)
    mix, a, b = map(normalize, (z_mix, z_a, z_b))
    residual = mix - alpha * a - (1 - alpha) * b[..., permutation, :]
    costs = [inner_products(residual, normalize(z)).square().mean((-2, -1)) for z in references]
    return torch.stack(costs).sum(dim=0)


def nt_xent_form(
    z_a: Tensor, z_b: Tensor, *, temperature: float | Tensor, gradients: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """NT-Xent (...) and its gradients without autograd, a block of anchors at a time.

    A block's similarities become its softmax in place, and that goes into the gradient before the next block comes.
    """
    z = torch.cat([z_a, z_b], dim=-2)
    shrink = inverse_length(z)
    items = z * shrink
    views = items.shape[-2]
    rows = rows_at_once(items.shape[:-1].numel(), BLOCK_ENTRIES, z.device)
    value = items.new_zeros(items.shape[:-2])
    grad = torch.zeros_like(items)
    for start in range(0, views, rows):
        anchors = items[..., start : start + rows, :]
        own = torch.arange(start, start + anchors.shape[-2], device=z.device)[:, None]
        other = ((own + views // 2) % views).expand(*anchors.shape[:-1], 1)
        chances = (anchors / temperature) @ items.mT
        chances.scatter_(-1, own.expand(other.shape), -torch.inf)
        positive = chances.gather(-1, other)
        largest = chances.amax(dim=-1, keepdim=True)
        total = chances.sub_(largest).exp_().sum(dim=-1, keepdim=True)
        value += (largest + total.log() - positive).sum((-2, -1))
        if gradients:
            chances.div_(total).scatter_add_(-1, other, torch.full_like(positive, -1))
            grad[..., start : start + rows, :] += chances @ items
            grad += chances.mT @ anchors
    value /= views
    if not gradients:
        return value, ()
    grad.addcmul_(items, (grad * items).sum(dim=-1, keepdim=True), value=-1).mul_(shrink / (temperature * views))
    return value, tuple(grad.chunk(2, dim=-2))
