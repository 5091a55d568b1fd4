"""AMCL's bounded objective over two views in closed form: value and gradient a block of anchors at a time.

The definition (`adaptive.soft_contrast`) keeps some fifteen tensors of the size of the scores for its backward pass;
here a block's scores and temperatures are in the cache once, and memory grows with the batch alone.
"""

from functools import partial

import torch
from torch import Tensor

from hf_ssl.functional.closed_form import closed_form_by_head
from hf_ssl.functional.contrastive import BLOCK_ENTRIES
from hf_ssl.functional.precision import full_precision
from hf_ssl.functional.relations import rows_at_once

BLOCK_TENSORS = 4  # of a block's size that live through it; the others are passing


@full_precision
def soft_nt_xent(items: Tensor, learned: Tensor, low: float, high: float, beta: float, width: int) -> Tensor:
    """`soft_contrast` of all 2B views, under temperatures `low` to `high` from the products of `learned`: -> (...).

    `items` (..., 2B, D) are the unit rows of view a and then of view b, `learned` (..., 2B, D') what a perceptron made
    of them.
    """
    form = partial(soft_nt_xent_form, low=low, high=high, beta=beta, width=width)
    return closed_form_by_head(form, items, learned)


def soft_nt_xent_form(
    items: Tensor, learned: Tensor, *, low: float, high: float, beta: float, width: int, gradients: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Value (...) and gradients without autograd."""
    views = items.shape[-2]
    rows = rows_at_once(BLOCK_TENSORS * items.shape[:-1].numel(), BLOCK_ENTRIES, items.device)
    value = items.new_zeros(items.shape[:-2])
    grads = torch.zeros_like(items), torch.zeros_like(learned)
    for start in range(0, views, rows):
        scores = items[..., start : start + rows, :] @ items.mT
        share = torch.sigmoid(-(learned[..., start : start + rows, :] @ learned.mT))  # of the way from `low` to `high`
        own = torch.arange(start, start + scores.shape[-2], device=items.device)[:, None]
        other = ((own + views // 2) % views).expand(*scores.shape[:-1], 1)
        inverse = (low + (high - low) * share).reciprocal()
        exponents = inverse * (scores - beta) + (beta * width / 2) * inverse.log()  # s / tau - beta Omega(tau)
        exponents.scatter_(-1, own.expand(other.shape), -torch.inf)
        positive = exponents.gather(-1, other)
        largest = exponents.amax(dim=-1, keepdim=True)
        chances = exponents.sub_(largest).exp_()
        total = chances.sum(dim=-1, keepdim=True)
        value += (largest + total.log() - positive).sum((-2, -1))
        if not gradients:
            continue
        chances.div_(total).scatter_add_(-1, other, torch.full_like(positive, -1))
        by_score = chances.mul_(inverse)
        slope = ((scores - beta) * inverse + beta * width / 2).mul_(by_score)  # minus d / d tau
        by_product = slope.mul_(high - low).mul_(share * (1 - share))
        for grad, by, whole in zip(grads, (by_score, by_product), (items, learned), strict=True):
            grad[..., start : start + rows, :] += by @ whole
            grad += by.mT @ whole[..., start : start + rows, :]
    value /= views
    return value, tuple(grad / views for grad in grads) if gradients else ()
