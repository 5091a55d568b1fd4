"""Readings of a training run, against their plain formulas and in the cases that they are there to tell."""

import pytest
import torch

from hf_ssl import functional as F


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", [(8, 16), (16, 8), (2, 3, 5, 24)])
def test_cross_correlation_readings_are_those_of_the_whole_matrix(shape):
    z_a = normal(*shape)
    z_b = z_a + 0.5 * normal(*shape, seed=1)
    positive, negative = F.split_diagonal(F.standardize(z_a).mT @ F.standardize(z_b) / shape[-2])
    readings = F.cross_correlation_readings(z_a, z_b)
    torch.testing.assert_close(readings["diagonal_mean"], positive.mean())
    torch.testing.assert_close(readings["off_diagonal_rms"], negative.square().mean((-2, -1)).sqrt().mean())
    assert set(readings) == {"diagonal_mean", "off_diagonal_rms"}
    assert all(value.shape == () for value in readings.values())


@pytest.mark.parametrize("shape", [(3, 16), (16, 3)])
def test_readings_at_the_extremes(shape):
    column = normal(shape[0], 1) * 100
    repeated = F.cross_correlation_readings(column.expand(shape), column.expand(shape))
    torch.testing.assert_close(torch.stack([*repeated.values()]), torch.ones(2).double(), rtol=1e-4, atol=0)
    noise = normal(16, 3)
    decorrelated = torch.linalg.qr(noise - noise.mean(0))[0] * 1e4
    readings = F.cross_correlation_readings(decorrelated, decorrelated)
    assert readings["off_diagonal_rms"] < 1e-6 and readings["diagonal_mean"] > 1 - 1e-6
    constant = F.cross_correlation_readings(torch.ones(shape), torch.ones(shape))
    assert constant == {"diagonal_mean": 0, "off_diagonal_rms": 0}


@pytest.mark.parametrize("shape", [(8, 16), (16, 8), (2, 3, 5, 7)])
def test_effective_rank_is_that_of_the_singular_values(shape):
    z = normal(*shape)
    values = torch.linalg.svdvals(z)
    share = values / values.sum(-1, keepdim=True)
    torch.testing.assert_close(F.effective_rank(z), (-(share * share.log()).sum(-1)).exp())


def test_effective_rank_counts_directions():
    basis = torch.linalg.qr(normal(64, 64))[0].float()
    for rank in (1, 5, 64):
        z = basis[:, :rank] @ basis[:rank]
        assert F.effective_rank(z).item() == pytest.approx(rank, rel=1e-3)
    assert F.effective_rank(normal(1, 48, dtype=torch.float32).expand(64, 48)).item() == pytest.approx(1, abs=1e-3)
    assert F.effective_rank(torch.zeros(4, 6)) == 1


def test_readings_hold_no_graph_and_lift_half_precision():
    z = normal(8, 16, dtype=torch.float32).requires_grad_()
    for value in (*F.cross_correlation_readings(z, z).values(), F.effective_rank(z)):
        assert not value.requires_grad and value.dtype == torch.float32
    assert F.effective_rank(z.bfloat16()).dtype == torch.float32
    assert F.effective_rank(z.bfloat16()) == F.effective_rank(z.bfloat16().float())


def test_cka_is_that_of_the_centred_gram_matrices():
    z = normal(3, 20, 6) + 5 * normal(3, 1, 6, seed=1)
    grams = [(x - x.mean(0)) @ (x - x.mean(0)).T for x in z]
    pairs = [(0, 1), (0, 2), (1, 2)]
    cka = [(grams[i] * grams[j]).sum() / (grams[i].norm() * grams[j].norm()) for i, j in pairs]
    torch.testing.assert_close(F.mean_pairwise_cka(z), torch.stack(cka).mean())


@pytest.mark.parametrize("shape", [(400, 8), (8, 400)])
def test_cka_tells_equal_heads_from_unlike_ones(shape):
    z = normal(*shape)
    rotation = torch.linalg.qr(normal(shape[1], shape[1], seed=1))[0]
    equal = torch.stack([z, 7 * z @ rotation, z + 3])
    torch.testing.assert_close(F.mean_pairwise_cka(equal), torch.tensor(1.0).double())
    others = F.mean_pairwise_cka(normal(3, 400, 8))
    assert others < 0.05
    assert F.mean_pairwise_cka(torch.stack([z, torch.ones(shape).double()])) == 0  # a head that has collapsed
