"""Barlow Twins and its mix term with their gradients, by the cheaper of two exact routes.

Both need only squared sizes of cross products, and `||x^T y||^2 = <x x^T, y y^T>`: D x D numbers on one side, B x B on
the other. Letters: B images, D embedding dimensions; dots are leading axes (heads, directions), which never mix.
All functions here compute without autograd.
"""

import torch
from torch import Tensor

from hf_ssl.functional.mixing import blend
from hf_ssl.functional.relations import centre


class Standardized:
    """Embeddings with standardized columns, `rows` (..., B, D)."""

    def __init__(self, z: Tensor, standardization: str) -> None:
        centred, self.inverse, self.divisor = centre(z, standardization)
        self.rows = centred.mul_(self.inverse)

    def pull_back_(self, gradient: Tensor) -> Tensor:
        """Turn a gradient of the rows, in place, into that of the embeddings they were made from.

        Its column means must be zero, as they are for any gradient that is made of centred rows.
        """
        along = (gradient * self.rows).sum(dim=-2, keepdim=True) / self.divisor
        return gradient.addcmul_(self.rows, along, value=-1).mul_(self.inverse)


def gram_is_cheaper(z: Tensor) -> bool:
    """Whether B x B matrices take fewer operations than D x D ones: 8 B^2 D against 6 B D^2, gradients included."""
    return z.shape[-2] < 0.75 * z.shape[-1]


def energy_and_diagonal(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Squares of all entries of C = a^T b / B, summed (...), and the diagonal of C (..., D)."""
    batch = a.shape[-2]
    if gram_is_cheaper(a):
        return inner(a @ a.mT, b @ b.mT) / batch**2, (a * b).sum(-2) / batch
    matrix = (a.mT @ b).div_(batch)
    return inner(matrix, matrix), matrix.diagonal(dim1=-2, dim2=-1)


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Products of corresponding entries of two matrices (..., N, M), summed: -> (...)."""
    return torch.linalg.vecdot(x, y).sum(-1)


def barlow_twins_form(
    z_a: Tensor, z_b: Tensor, *, redundancy_weight: float, standardization: str, gradients: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Eq. 1 of Barlow Twins (...), and its gradients."""
    side_a, side_b = Standardized(z_a, standardization), Standardized(z_b, standardization)
    a, b, batch = side_a.rows, side_b.rows, z_a.shape[-2]
    by_gram = gram_is_cheaper(a)
    if by_gram:
        gram_a, gram_b = a @ a.mT, b @ b.mT
        squares, matches = inner(gram_a, gram_b) / batch**2, (a * b).sum(-2) / batch
    else:
        matrix = (a.mT @ b).div_(batch)
        squares, matches = inner(matrix, matrix), matrix.diagonal(dim1=-2, dim2=-1).clone()
    value = (1 - matches).square().sum(-1) + redundancy_weight * (squares - matches.square().sum(-1))
    if not gradients:
        return value, ()

    slope = (2 / batch) * ((1 - redundancy_weight) * matches - 1)
    if by_gram:
        scale = 2 * redundancy_weight / batch**2
        grad_a, grad_b = gram_b.mul_(scale) @ a, gram_a.mul_(scale) @ b
        grad_a.addcmul_(b, slope[..., None, :])
        grad_b.addcmul_(a, slope[..., None, :])
    else:
        matrix.mul_(2 * redundancy_weight / batch).diagonal(dim1=-2, dim2=-1).add_(slope)
        grad_a, grad_b = b @ matrix.mT, a @ matrix
    return value, (side_a.pull_back_(grad_a), side_b.pull_back_(grad_b))


def mix_consistency_form(
    z_mix: Tensor,
    z_a: Tensor,
    z_b: Tensor,
    *,
    alpha: float | Tensor,
    permutation: Tensor,
    target: str,
    standardization: str,
    gradients: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """R (...) of Mixed Barlow Twins, and its gradients.

    With residuals E, F of the mixed rows from the mixture of rows, R = (<E E^T, A A^T> + <F F^T, B B^T>) / B^2.
    """
    sides = [Standardized(z, standardization) for z in (z_mix, z_a, z_b)]
    mix, a, b = (side.rows for side in sides)
    batch, partner = b.shape[-2], b.index_select(-2, permutation)
    residual_a = mix - blend(a, partner, alpha)
    residual_b = residual_a if target == "ab" else mix - blend(b, partner, alpha)

    if gram_is_cheaper(a):
        gram_a, gram_b, outer_a = a @ a.mT, b @ b.mT, residual_a @ residual_a.mT
        outer_b = outer_a if target == "ab" else residual_b @ residual_b.mT
        value = (inner(outer_a, gram_a) + inner(outer_b, gram_b)) / batch**2
    else:
        cross_a, cross_b = residual_a.mT @ a, residual_b.mT @ b
        value = (inner(cross_a, cross_a) + inner(cross_b, cross_b)) / batch**2
    if not gradients:
        return value, ()
    ...
