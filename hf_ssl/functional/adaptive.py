"""Temperatures that are learned, one for each pair and head, and the objectives that keep them honest (AMCL).

Adaptive multi-head contrastive learning (Wang et al., 2023, https://huggingface.co/papers/2310.05615) reads a score s
as a Gaussian observation of variance tau: `-s / tau + Omega(tau)` with `Omega(tau) = (d / 2) ln tau + 1 / tau` for d
dimensions is its negative log-likelihood, so that a pair that is hard to match may pay for a higher temperature.

"hard" forms are the published ones, which are unbounded below for their published constants (the negatives' tau falls
to its floor and the loss with it). "soft" forms are bounded: over images the cross-entropy of the same exponents with
the match among the candidates, over dimensions a Gaussian with learned variances.

Letters: N anchors, M negatives of each; dots are leading axes (directions, heads), which never mix.
"""

import torch
from torch import Tensor

from hf_ssl.functional.barlow_twins import redundancy_reduction
from hf_ssl.functional.contrastive import info_nce
from hf_ssl.functional.relations import PairScores, logits


def temperatures(agreement: PairScores, low: float, high: float) -> PairScores:
    """Squash products phi(z_i) . phi(z_j) into `low` to `high`, high agreement to low temperature (eq. 3)."""
    positive, negative = (low + (high - low) * torch.sigmoid(-products) for products in agreement)
    return PairScores(positive, negative)


def omega(temperature: Tensor, width: int) -> Tensor:
    """Omega(tau) = (d / 2) ln tau + 1 / tau for embeddings of `width` d; least at tau = 2 / d. Shapes are kept."""
    return (width / 2) * temperature.log() + 1 / temperature


def soft_contrast(scores: PairScores, temperature: PairScores, beta: float, width: int) -> Tensor:
    """Cross-entropy over s / tau - `beta` Omega(tau), the match among its candidates, mean over anchors: -> (...).

    Never negative; with one constant temperature it is `info_nce` for any `beta`.
    """
    plain = logits(scores, temperature)
    exponents = (logit - beta * omega(tau, width) for logit, tau in zip(plain, temperature, strict=True))
    return info_nce(PairScores(*exponents), None)


def hard_contrast(
    scores: PairScores, temperature: PairScores, beta: float, width: int, top_k: int = 100, as_printed: bool = False
) -> Tensor:
    """Published contrast with the `top_k` most similar negatives (eq. 2.1 and the authors' code): -> (...).

    For each anchor -s / tau + `beta` Omega(tau) of the match, plus the mean of s / tau over its hardest negatives,
    chosen by s, minus `beta` times the sum of their ln tau + 1 / tau; `as_printed` takes Omega there as well, which at
    `top_k` 1 is eq. 2.1.
    """
    hardest, indices = scores.negative.topk(min(top_k, scores.negative.shape[-1]), dim=-1)
    chosen = temperature.negative.gather(-1, indices)
    match = -scores.positive / temperature.positive + beta * omega(temperature.positive, width)
    spread = omega(chosen, width if as_printed else 2)
    return (match + (hardest / chosen).mean(dim=-1) - beta * spread.sum(dim=-1)).mean(dim=-1)


def soft_redundancy_reduction(
    scores: PairScores, temperature: PairScores, redundancy_weight: float, beta: float
) -> Tensor:
    """Barlow Twins as a Gaussian with learned variances, residual^2 / tau + `beta` ln tau of every entry: -> (...).

    Each tau has its optimum at residual^2 / `beta`, and the whole is bounded below while tau is.
    """
    residuals = PairScores((1 - scores.positive).square(), scores.negative.square())
    plain = logits(residuals, temperature)
    matches, others = (logit + beta * tau.log() for logit, tau in zip(plain, temperature, strict=True))
    return matches.sum(dim=-1) + redundancy_weight * others.sum(dim=(-2, -1))


def hard_redundancy_reduction(
    scores: PairScores, temperature: PairScores, redundancy_weight: float, beta: float, width: int
) -> Tensor:
    """Published Barlow Twins form (eq. 2.3): -> (...).

    `redundancy_reduction` with the match's tau inside the square, plus `beta` Omega of the matches' temperatures and
    minus that of the others'.
    """
    spread = omega(temperature.positive, width).sum(-1) - omega(temperature.negative, width).sum((-2, -1))
    return redundancy_reduction(scores, temperature, redundancy_weight) + beta * spread


def soft_agreement(similarity: Tensor, temperature: Tensor, beta: float) -> Tensor:
    """SimSiam as a likelihood, mean of (1 - s) / tau + `beta` ln tau over matches (..., N): -> (...).

    Each tau has its optimum at (1 - s) / `beta`, and the whole is bounded below while tau is.
    """
    return ((1 - similarity) / temperature + beta * temperature.log()).mean(dim=-1)


def hard_agreement(similarity: Tensor, temperature: Tensor, beta: float, width: int) -> Tensor:
    """Published SimSiam form for one direction (eq. 2.2 is the mean of two), matches (..., N): -> (...).

    The mean of -s / tau + 2 `beta` Omega(tau): the equation halves the similarities and not Omega.
    """
    return (-similarity / temperature + 2 * beta * omega(temperature, width)).mean(dim=-1)
