"""The words of the objectives: standardized columns, unit rows, inner products, the parted relation."""

import pytest
import torch
from conftest import golden

from hf_ssl import functional as F


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", [(8, 5), (3, 8, 5), (2, 3, 8, 5)])
def test_biased_standardization_is_a_batch_norm_without_weights(shape):
    z = normal(*shape) * 3 + 7
    expected = torch.stack(
        [torch.nn.functional.batch_norm(each, None, None, training=True, eps=1e-5) for each in z.view(-1, 8, 5)]
    ).view(shape)
    torch.testing.assert_close(F.standardize(z), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 5), (2, 3, 8, 5)])
def test_unbiased_standardization_divides_by_the_sample_deviation(shape):
    z = normal(*shape) * 3 + 7
    expected = (z - z.mean(-2, keepdim=True)) / z.std(-2, keepdim=True)
    torch.testing.assert_close(F.standardize(z, "unbiased"), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("standardization", ["biased", "unbiased"])
def test_standardization_has_the_derivative_it_should(standardization):
    z = normal(2, 6, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: F.standardize(z, standardization), z)


@pytest.mark.parametrize("standardization", ["biased", "unbiased"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3e4])
def test_a_constant_column_becomes_zero_and_passes_no_gradient(standardization, constant):
    z = normal(64, 3, dtype=torch.float32)
    z[:, 1] = constant
    z.requires_grad_()
    standardized = F.standardize(z, standardization)
    (standardized * normal(64, 3, seed=1, dtype=torch.float32)).sum().backward()
    assert torch.equal(standardized[:, 1], torch.zeros(64))
    assert standardized.isfinite().all() and z.grad.isfinite().all()
    if standardization == "unbiased":
        assert torch.equal(z.grad[:, 1], torch.zeros(64))


def test_a_column_far_from_zero_keeps_its_digits():
    z = normal(64, 1) + 1000
    exact = F.standardize(z.float().double())
    torch.testing.assert_close(F.standardize(z.float()).double(), exact, rtol=1e-5, atol=1e-5)


def test_an_unknown_standardization_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'batch'.*biased.*unbiased"):
        F.standardize(normal(4, 2), "batch")


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="batch of 1"):
        F.standardize(normal(1, 2))


def test_unit_rows_are_those_of_torch_and_a_zero_row_stays_zero():
    z = normal(2, 6, 4)
    z[0, 0] = 0
    torch.testing.assert_close(F.normalize(z), torch.nn.functional.normalize(z, dim=-1), rtol=1e-14, atol=0)
    assert torch.equal(F.normalize(z)[0, 0], torch.zeros(4, dtype=z.dtype))


def test_unit_rows_are_those_of_the_published_small_path():
    arrays = golden("mixbt_8x16")
    for name in ("z1", "z2", "zm"):
        torch.testing.assert_close(
            F.normalize(arrays[name].double()), arrays[f"small_l2_{name}"], rtol=1e-9, atol=1e-10
        )


def test_inner_products_have_the_derivative_they_should():
    a, b = normal(2, 3, 4).requires_grad_(), normal(2, 5, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(F.inner_products, (a, b))
    assert F.inner_products(a, b).shape == (2, 3, 5)


@pytest.mark.parametrize("function", [F.standardize, F.normalize, lambda z: F.inner_products(z, z + 1)])
def test_autocast_changes_no_bit_of_value_or_gradient(function):
    z = normal(8, 6, dtype=torch.float32).requires_grad_()
    weights = normal(*function(z).shape, seed=1, dtype=torch.float32)
    (plain,) = torch.autograd.grad((function(z) * weights).sum(), z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(z)
        (cast,) = torch.autograd.grad((value * weights).sum(), z)
    assert torch.equal(value, function(z)) and torch.equal(cast, plain)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("function", [F.standardize, F.normalize, lambda z: F.inner_products(z, z)])
def test_half_precision_is_computed_as_float32(function, half):
    z = normal(8, 6).to(half)
    assert function(z).dtype == torch.float32
    assert torch.equal(function(z), function(z.float()))


@pytest.mark.parametrize("size", [2, 5])
def test_a_relation_parts_into_matches_and_each_rows_others(size):
    matrix = torch.arange(2 * size * size).view(2, size, size)
    positive, negative = F.split_diagonal(matrix)
    assert positive.shape == (2, size) and negative.shape == (2, size, size - 1)
    for head in range(2):
        for row in range(size):
            others = [int(matrix[head, row, column]) for column in range(size) if column != row]
            assert positive[head, row] == matrix[head, row, row] and negative[head, row].tolist() == others


def test_parting_passes_every_gradient_to_its_own_entry():
    matrix = normal(2, 4, 4).requires_grad_()
    positive, negative = F.split_diagonal(matrix)
    (positive.sum() * 2 + negative.sum() * 3).backward()
    assert torch.equal(matrix.grad, 3 - torch.eye(4, dtype=matrix.dtype).expand(2, 4, 4))
