"""Blending images: what a mixed view is made of, and the draw that decides it (Bandara et al., 2023)."""

from typing import NamedTuple

import torch
from torch import Tensor


class Mix(NamedTuple):
    """One step's draw: `alpha` () is the share of view a, `permutation` (B,) int64 says whose view b joins each row.

    `scale` () is the warm-up's factor on the mix term. The permutation counts rows of the whole batch over all
    processes and never leaves a block of the group size, so a process that holds whole blocks needs no other rows.
    """

    alpha: Tensor
    permutation: Tensor
    scale: Tensor


def draw_mix(batch_size: int, group_size: int, generator: torch.Generator, scale: float = 1.0) -> Mix:
    """Draw one alpha from U(0, 1) = Beta(1, 1) and a uniform permutation inside blocks of `group_size` rows.

    `generator` is a CPU generator; equal states give equal draws on any number of processes. Raises ValueError
    unless `group_size` divides `batch_size`.
    """
    if group_size < 1 or batch_size % group_size:
        raise ValueError(f"a batch of {batch_size} rows has no whole blocks of {group_size}.")
    alpha = torch.rand((), generator=generator)
    keys = torch.rand(batch_size // group_size, group_size, generator=generator, dtype=torch.float64)
    starts = torch.arange(0, batch_size, group_size)[:, None]
    return Mix(alpha, (keys.argsort(dim=1) + starts).flatten(), torch.tensor(float(scale)))


def mix_views(view_a: Tensor, view_b: Tensor, alpha: float | Tensor, permutation: Tensor) -> Tensor:
    """Blend images: `alpha` of `view_a` (b, ...) and the rest from the rows `permutation` (b,) of `view_b`."""
    return alpha * view_a + (1 - alpha) * view_b[permutation]
