"""Barlow Twins and its mix term with their gradients, by the cheaper of two exact routes.

Both need only squared sizes of cross products, and `||x^T y||^2 = <x x^T, y y^T>`: D x D numbers on one side, B x B on
the other. Letters: B images, D embedding dimensions; dots are leading axes (heads, directions), which never mix.
All functions here compute without autograd.
"""

from collections.abc import Sequence

from torch import Tensor

from hf_ssl.functional.relations import centre, column_products, inverse_length

Gradients = tuple[Tensor, ...]


class Standardized:
    """Embeddings with standardized columns, `rows` (..., B, D), from `z` itself or from its rows at unit length."""

    def __init__(self, z: Tensor, standardization: str, normalize_embeddings: bool) -> None:
        self.z, self.shrink = z, inverse_length(z) if normalize_embeddings else None
        centred, self.inverse, self.divisor = centre(z if self.shrink is None else z * self.shrink, standardization)
        self.rows = centred.mul_(self.inverse)

    def pull_back_(self, gradient: Tensor) -> Tensor:
        """Turn a gradient of the rows, in place, into that of the embeddings they were made from.

        Its columns must have zero mean, as those of every sum of products with centred rows have.
        """
        along = column_products(gradient, self.rows) / self.divisor
        gradient.addcmul_(self.rows, along, value=-1).mul_(self.inverse)
        if self.shrink is None:
            return gradient
        radial = (gradient * self.z).sum(dim=-1, keepdim=True) * self.shrink**3
        return gradient.mul_(self.shrink).addcmul_(self.z, radial, value=-1)


def barlow_twins_form(
    z_a: Tensor,
    z_b: Tensor,
    *,
    redundancy_weight: float,
    standardization: str,
    normalize_embeddings: bool,
    gradients: bool,
) -> tuple[Tensor, Gradients]:
    """Eq. 1 of Barlow Twins (...), and its gradients."""
    a, b = (Standardized(z, standardization, normalize_embeddings) for z in (z_a, z_b))
    batch = z_a.shape[-2]
    matches = column_products(a.rows, b.rows) / batch
    invariance = ((1 - matches).square() - redundancy_weight * matches.square()).sum((-2, -1))
    redundancy, grads = energy(a.rows, [b.rows], redundancy_weight / batch**2, gradients)
    if not gradients:
        return invariance + redundancy, ()

    slope = (2 / batch) * ((1 - redundancy_weight) * matches - 1)
    grad_a, grad_b = grads[0].addcmul_(b.rows, slope), grads[1].addcmul_(a.rows, slope)
    return invariance + redundancy, (a.pull_back_(grad_a), b.pull_back_(grad_b))


def mix_consistency_form(
    z_mix: Tensor,
    z_a: Tensor,
    z_b: Tensor,
    *,
    alpha: float | Tensor,
    permutation: Tensor,
    target: str,
    standardization: str,
    normalize_embeddings: bool,
    gradients: bool,
) -> tuple[Tensor, Gradients]:
    """R (...) of Mixed Barlow Twins, and its gradients.

    With residuals E, F of the mixed rows from the mixture of rows, R = (||E^T A||^2 + ||F^T B||^2) / B^2.
    """
    mix, a, b = (Standardized(z, standardization, normalize_embeddings) for z in (z_mix, z_a, z_b))
    scale = 1 / z_b.shape[-2] ** 2
    residual = b.rows.index_select(-2, permutation).mul_(alpha - 1).add_(mix.rows).sub_(alpha * a.rows)
    if target == "ab":
        value, grads = energy(residual, [a.rows, b.rows], scale, gradients)
        if not gradients:
            return value, ()
        grad_mix, grad_a, grad_b = grads
        share = alpha * grad_mix
        grad_a -= share
    else:
        value, grads = energy(residual, [a.rows], scale, gradients)
        residual += alpha * (a.rows - b.rows)
        other, other_grads = energy(residual, [b.rows], scale, gradients)
        value = value + other
        if not gradients:
            return value, ()
        (grad_mix, grad_a), (grad_other, grad_b) = grads, other_grads
        grad_a -= alpha * grad_mix
        grad_b -= alpha * grad_other
        grad_mix += grad_other
        share = alpha * grad_mix
    grad_b.index_add_(-2, permutation, share.sub_(grad_mix))
    return value, (mix.pull_back_(grad_mix), a.pull_back_(grad_a), b.pull_back_(grad_b))


def energy(x: Tensor, references: Sequence[Tensor], scale: float, gradients: bool) -> tuple[Tensor, Gradients]:
    """Sum over references y of ||x^T y||^2, times `scale` (...), and its gradients for x and every y (..., B, D)."""
    batch, width = x.shape[-2:]
    if batch < 0.75 * width:  # 8 B^2 D operations with the gradients, against 6 B D^2
        gram_x, gram_y = x @ x.mT, sum_of([y @ y.mT for y in references])
        value = scale * inner(gram_x, gram_y)
        if not gradients:
            return value, ()
        gram_x *= 2 * scale
        gram_y *= 2 * scale
        return value, (gram_y @ x, *(gram_x @ y for y in references))

    crosses = [x.mT @ y for y in references]
    value = scale * sum_of([inner(cross, cross) for cross in crosses])
    if not gradients:
        return value, ()
    for cross in crosses:
        cross *= 2 * scale
    pairs = list(zip(references, crosses, strict=True))
    return value, (sum_of([y @ cross.mT for y, cross in pairs]), *(x @ cross for cross in crosses))


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Products of corresponding entries of two matrices (..., N, M), summed: -> (...)."""
    return column_products(x, y).sum((-2, -1))


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """Sum of fresh tensors of one shape, in the first one's memory."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total += tensor
    return total
