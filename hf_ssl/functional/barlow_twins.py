"""Barlow Twins and its mix: two views should agree in every dimension, and no two dimensions should say the same.

Barlow Twins (Zbontar et al., 2021, https://huggingface.co/papers/2103.03230) draws the cross-correlation C of two
standardized batches to the identity. Mixed Barlow Twins (Bandara et al., 2023,
https://huggingface.co/papers/2312.02151) asks the embeddings of a blend of images to correlate with the sources as
the same blend of their embeddings would.

Both need only squared sizes of cross products, `||x^T y||^2 = <x x^T, y y^T>`: matrices of D x D on the left, of
B x B on the right. The cheaper side is taken; `redundancy_reduction` is the definition that both are held to.
"""

import torch
from torch import Tensor

from hf_ssl.functional.energies import Embeddings, energy, energy_and_diagonal, standardized
from hf_ssl.functional.mixing import blend
from hf_ssl.functional.precision import full_precision
from hf_ssl.functional.relations import PairScores, same_shape

MIX_TARGETS = ("ab", "bb")


@full_precision
def barlow_twins(
    z_a: Tensor,
    z_b: Tensor,
    redundancy_weight: float,
    standardization: str = "biased",
    normalize_embeddings: bool = False,
) -> Tensor:
    """Sum of (1 - C_ii)^2 plus `redundancy_weight` times sum of C_ij^2 (eq. 1): (..., B, D) twice -> (...).

    C is divided by B under both standardizations. `normalize_embeddings` scales rows to unit length first.
    """
    same_shape(z_a=z_a, z_b=z_b)
    a, b = (standardized(z, standardization, normalize_embeddings) for z in (z_a, z_b))
    return _objective(a, b, redundancy_weight)


@full_precision
def mix_consistency(
    z_mix: Tensor,
    z_a: Tensor,
    z_b: Tensor,
    alpha: float | Tensor,
    permutation: Tensor,
    target: str = "ab",
    standardization: str = "biased",
    normalize_embeddings: bool = False,
) -> Tensor:
    """R, the squared distance of the mix's correlations from the mix of correlations: (..., B, D) thrice -> (...).

    The mixed batch holds `alpha` of view a and 1 - `alpha` of the rows `permutation` (B,) of view b. `target` names
    what the correlation with view b is compared with: "ab" (the paper and its small-image code) blends a and b,
    "bb" (its ImageNet code) blends b with its own permutation.
    """
    same_shape(z_mix=z_mix, z_a=z_a, z_b=z_b)
    mix, a, b = (standardized(z, standardization, normalize_embeddings) for z in (z_mix, z_a, z_b))
    return _consistency(mix, a, b, alpha, permutation, target)


@full_precision
def mixed_barlow_twins(
    z_mix: Tensor,
    z_a: Tensor,
    z_b: Tensor,
    alpha: float | Tensor,
    permutation: Tensor,
    redundancy_weight: float,
    target: str = "ab",
    standardization: str = "biased",
    normalize_embeddings: bool = False,
) -> tuple[Tensor, Tensor]:
    """`barlow_twins` and `mix_consistency` of the same embeddings at about two thirds of their separate cost."""
    same_shape(z_mix=z_mix, z_a=z_a, z_b=z_b)
    mix, a, b = (standardized(z, standardization, normalize_embeddings) for z in (z_mix, z_a, z_b))
    return _objective(a, b, redundancy_weight), _consistency(mix, a, b, alpha, permutation, target)


def redundancy_reduction(
    scores: PairScores, temperature: PairScores | float | None, redundancy_weight: float
) -> Tensor:
    """Define the objective over correlations, N = D anchors with M = D - 1 negatives each: -> (...).

    With temperatures, numbers or shaped like the scores, the matches count (1 - C_ii / tau_ii)^2 and the others
    C_ij^2 / tau_ij (AMCL, eq. 2.3); without, this is eq. 1 of Barlow Twins.
    """
    if not isinstance(temperature, PairScores):
        one = scores.positive.new_ones(()) if temperature is None else torch.as_tensor(temperature)
        temperature = PairScores(one, one)
    invariance = (1 - scores.positive / temperature.positive).square().sum(-1)
    redundancy = (scores.negative.square() / temperature.negative).sum((-2, -1))
    return invariance + redundancy_weight * redundancy


def _objective(a: Embeddings, b: Embeddings, redundancy_weight: float) -> Tensor:
    squares, matches = energy_and_diagonal(a, b)
    return (1 - matches).square().sum(-1) + redundancy_weight * (squares - matches.square().sum(-1))


def _consistency(
    mix: Embeddings, a: Embeddings, b: Embeddings, alpha: float | Tensor, permutation: Tensor, target: str
) -> Tensor:
    if target not in MIX_TARGETS:
        raise ValueError(f"target is '{target}' but must be one of {MIX_TARGETS}.")
    if permutation.shape != b.rows.shape[-2:-1]:
        raise ValueError(f"permutation has shape {tuple(permutation.shape)} but the batch {b.rows.shape[-2]} rows.")
    partner = b.rows.index_select(-2, permutation)
    residual = Embeddings(mix.rows - blend(a.rows, partner, alpha))
    if target == "ab":
        return energy(residual, a) + energy(residual, b)
    return energy(residual, a) + energy(Embeddings(mix.rows - blend(b.rows, partner, alpha)), b)
