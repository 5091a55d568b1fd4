"""Barlow Twins and its mix: two views should agree in every dimension, and no two dimensions should say the same.

Barlow Twins (Zbontar et al., 2021, https://huggingface.co/papers/2103.03230) draws the cross-correlation C of two
standardized batches to the identity. Mixed Barlow Twins (Bandara et al., 2023,
https://huggingface.co/papers/2312.02151) asks the embeddings of a blend of images to correlate with the sources as
the same blend of their embeddings would. `redundancy_reduction` is the definition that the fast form is held to.
"""

from functools import partial

from torch import Tensor

from hf_ssl.functional.closed_form import closed_form
from hf_ssl.functional.exact_forms import barlow_twins_form, mix_consistency_form
from hf_ssl.functional.precision import full_precision, lift
from hf_ssl.functional.relations import PairScores, logits, same_shape

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
    form = partial(
        barlow_twins_form,
        redundancy_weight=redundancy_weight,
        standardization=standardization,
        normalize_embeddings=normalize_embeddings,
    )
    return closed_form(form, z_a, z_b)


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

    The mixed batch holds `alpha` of view a and 1 - `alpha` of the rows `permutation` (B,) of view b; neither has a
    gradient. `target` names what the correlation with view b is compared with: "ab" (the paper and its small-image
    code) blends a and b, "bb" (its ImageNet code) blends b with its own permutation.
    """
    same_shape(z_mix=z_mix, z_a=z_a, z_b=z_b)
    if target not in MIX_TARGETS:
        raise ValueError(f"target is '{target}' but must be one of {MIX_TARGETS}.")
    if permutation.shape != z_b.shape[-2:-1]:
        raise ValueError(f"permutation has shape {tuple(permutation.shape)} but the batch {z_b.shape[-2]} rows.")
    if isinstance(alpha, Tensor) and alpha.requires_grad:
        raise ValueError("alpha asks for a gradient but is a constant of the step: detach it.")
    form = partial(
        mix_consistency_form,
        alpha=alpha,
        permutation=permutation,
        target=target,
        standardization=standardization,
        normalize_embeddings=normalize_embeddings,
    )
    return closed_form(form, z_mix, z_a, z_b)


def redundancy_reduction(
    scores: PairScores, temperature: PairScores | float | None, redundancy_weight: float
) -> Tensor:
    """Define the objective over correlations, N = D anchors with M = D - 1 negatives each: -> (...).

    With temperatures, numbers or shaped like the scores, the matches count (1 - C_ii / tau_ii)^2 and the others
    C_ij^2 / tau_ij (AMCL, eq. 2.3); without, this is eq. 1 of Barlow Twins.
    """
    positive, negative = map(lift, scores)
    matches, others = logits(PairScores(positive, negative.square()), temperature)
    return (1 - matches).square().sum(-1) + redundancy_weight * others.sum((-2, -1))
