"""What to watch while training: cheap, without gradients, never a D x D matrix when the batch is smaller."""

import torch
from torch import Tensor

from hf_ssl.functional.exact_forms import energy
from hf_ssl.functional.precision import full_precision
from hf_ssl.functional.relations import same_shape, standardize


@torch.no_grad()
@full_precision
def cross_correlation_readings(z_a: Tensor, z_b: Tensor) -> dict[str, Tensor]:
    """How far the cross-correlation of (..., B, D) twice is from the identity, the mean over leading axes.

    "diagonal_mean" () goes to 1 as views agree; "off_diagonal_rms" () to 0 as dimensions cease to repeat each other.
    """
    same_shape(z_a=z_a, z_b=z_b)
    a, b = standardize(z_a), standardize(z_b)
    matches = (a * b).mean(-2)
    squares, _ = energy(a, [b], 1 / a.shape[-2] ** 2, gradients=False)
    pairs = matches.shape[-1] * (matches.shape[-1] - 1)
    others = (squares - matches.square().sum(-1)).clamp_min(0) / max(pairs, 1)
    return {"diagonal_mean": matches.mean(), "off_diagonal_rms": others.sqrt().mean()}


@torch.no_grad()
@full_precision
def effective_rank(z: Tensor) -> Tensor:
    """Entropy of the normalised singular values of `z` (..., B, D), as a number of directions exp(entropy): -> (...).

    Between 1, when all rows are multiples of one (also when all are zero), and min(B, D). This is RankMe
    (Garrido et al., 2023, https://huggingface.co/papers/2210.02885).
    """
    # Squaring halves the digits, so the smaller Gram matrix is formed in float64.
    z = z.cpu() if z.device.type == "mps" else z  # which has no float64
    rows = (z if z.shape[-2] <= z.shape[-1] else z.mT).double()
    values = torch.linalg.eigvalsh(rows @ rows.mT).clamp_min(0).sqrt()
    share = values / values.sum(-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
    return torch.special.entr(share).sum(-1).exp().to(z.dtype)


@torch.no_grad()
@full_precision
def mean_pairwise_cka(z: Tensor) -> Tensor:
    """Mean linear centred kernel alignment of every two of C embeddings (C, B, D) of the same images: -> ().

    1 where all are the same up to rotation and scale, near 0 where they have nothing in common (Kornblith et al.,
    2019, https://huggingface.co/papers/1905.00414, eq. 3). A constant embedding is like none; C is at least 2.
    """
    centred = z - z.mean(dim=-2, keepdim=True)
    scaled = centred / torch.linalg.matrix_norm(centred)[:, None, None].clamp_min(torch.finfo(z.dtype).tiny)
    alike = torch.stack([(scaled.mT @ other).square().sum((-2, -1)) for other in scaled])  # (C, C)
    own = alike.diagonal().sqrt()
    cka = alike / (own * own[:, None]).clamp_min(torch.finfo(z.dtype).tiny)
    return (cka.sum() - cka.trace()) / (len(z) * (len(z) - 1))
