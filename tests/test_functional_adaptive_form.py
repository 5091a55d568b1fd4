"""AMCL's closed form is its definition, in value and gradient, and never as large as the scores."""

import pytest
import torch
from conftest import LargestTensor

from hf_ssl import functional as F
from hf_ssl.functional import adaptive_form

LOW, HIGH, WIDTH = 0.07, 0.9, 12


def rows(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def defined(items, learned, beta):
    scores, agreement = (F.split_views(F.inner_products(x, x)) for x in (items, learned))
    return F.soft_contrast(scores, F.temperatures(agreement, LOW, HIGH), beta, WIDTH)


@pytest.mark.parametrize("entries", [1, 300, 2**19])
@pytest.mark.parametrize("beta", [0.0, 0.01, 0.7])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_the_closed_form_is_the_definition(leading, beta, entries, monkeypatch):
    """Bug: a block that forgets a row, the wrong positive, or a slope without Omega; weights tell heads apart."""
    monkeypatch.setattr(adaptive_form, "BLOCK_ENTRIES", entries)
    items = F.normalize(rows(*leading, 14, 5)).requires_grad_()
    learned = rows(*leading, 14, 4, seed=1).requires_grad_()
    weights = rows(*leading, seed=2)
    results = []
    for cost in (F.soft_nt_xent(items, learned, LOW, HIGH, beta, WIDTH), defined(items, learned, beta)):
        results.append([cost, *torch.autograd.grad((cost * weights).sum(), [items, learned])])
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def test_without_gradients_the_value_is_the_same():
    items, learned = F.normalize(rows(3, 10, 5)), rows(3, 10, 4, seed=1)
    torch.testing.assert_close(F.soft_nt_xent(items, learned, LOW, HIGH, 0.1, WIDTH), defined(items, learned, 0.1))


def test_extreme_agreement_is_finite():
    """Bug: exponents that overflow before the largest is taken away."""
    items = F.normalize(rows(8, 5)).float().requires_grad_()
    learned = (1e3 * rows(8, 4, seed=1)).float().requires_grad_()
    cost = F.soft_nt_xent(items, learned, 1e-5, HIGH, 0.01, WIDTH)
    cost.backward()
    assert all(value.isfinite().all() for value in (cost, items.grad, learned.grad))


def test_half_precision_is_computed_in_float32():
    items, learned = F.normalize(rows(8, 5)).bfloat16(), rows(8, 4, seed=1).bfloat16()
    cost = F.soft_nt_xent(items, learned, LOW, HIGH, 0.01, WIDTH)
    torch.testing.assert_close(cost, F.soft_nt_xent(items.float(), learned.float(), LOW, HIGH, 0.01, WIDTH))
    assert cost.dtype == torch.float32


def test_no_tensor_is_as_large_as_the_scores(monkeypatch):
    monkeypatch.setattr(adaptive_form, "BLOCK_ENTRIES", 2**12)
    items, learned = F.normalize(rows(400, 5)).requires_grad_(), rows(400, 4, seed=1).requires_grad_()
    with LargestTensor() as largest:
        F.soft_nt_xent(items, learned, LOW, HIGH, 0.01, WIDTH).backward()
    assert largest.entries <= 400 * 5
