"""Several heads and learned temperatures: that they cost no more than they must, in time and in memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hf_ssl import functional as F
from hf_ssl.benchmarks.clock import compare, peak_memory
from hf_ssl.benchmarks.rows import Row, absent_row, embeddings, time_row, with_gradients

TEMPERATURE, WIDTH = 0.1, 128
HEADS, HEAD_PAIRS = 5, 512
AMCL_PAIRS, AMCL_HEADS, AMCL_BAR = 512, 3, 5.0
LOW, HIGH, BETA = 0.05, 1.0, 0.01


def run(rounds: int) -> list[Row]:
    """Rows of heads side by side, of AMCL's time and of its memory."""
    return [heads_row(rounds), amcl_row(rounds), amcl_memory_row()]


def heads_row(rounds: int) -> Row:
    """C heads at once against C single-head losses: a tie on a processor, where heads go one by one in its cache."""
    z_a, z_b = (torch.stack(side).detach().requires_grad_() for side in heads(HEADS, HEAD_PAIRS))
    variants = {
        "hf_ssl": with_gradients(lambda: F.nt_xent(z_a, z_b, TEMPERATURE).sum(), z_a, z_b),
        "loop": with_gradients(
            lambda: torch.stack([F.nt_xent(a, b, TEMPERATURE) for a, b in zip(z_a, z_b, strict=True)]).sum(), z_a, z_b
        ),
    }
    timing = compare(variants, "loop", rounds)["hf_ssl"]
    return time_row(f"nt_xent {HEADS} heads, pairs {HEAD_PAIRS}", "a loop over heads", timing, 1.0)


def amcl_row(rounds: int) -> Row:
    """AMCL's soft objective of C heads against its definition, a head at a time."""
    z_a, z_b = (torch.stack(side).detach().requires_grad_() for side in heads(HEADS, HEAD_PAIRS))
    phi = perceptron()

    def loop() -> Tensor:
        return torch.stack([amcl(a, b, phi) for a, b in zip(z_a, z_b, strict=True)]).sum()

    costs: dict[str, Callable[[], Tensor]] = {"hf_ssl": lambda: cheap_amcl(z_a, z_b, phi).sum(), "definition": loop}
    calls = {name: with_gradients(cost, z_a, z_b, *phi.parameters()) for name, cost in costs.items()}
    timing = compare(calls, "definition", rounds)["hf_ssl"]
    return time_row(f"amcl {HEADS} heads, pairs {HEAD_PAIRS}", "its definition, a head at a time", timing, 1.0)


def heads(count: int, pairs: int) -> tuple[list[Tensor], list[Tensor]]:
    """Embeddings of two views for several heads."""
    flat = embeddings(2 * count, pairs, WIDTH)
    return flat[:count], flat[count:]


def amcl_memory_row() -> Row:
    """AMCL's soft objective with its temperatures, against gathering the embeddings of every pair as published."""
    ours, theirs = (peak_memory(f"{__name__}:one_amcl", gather) / 1e6 for gather in (False, True))
    row = absent_row(f"amcl peak memory pairs {AMCL_PAIRS}, {AMCL_HEADS} heads", "pairwise gather", AMCL_BAR)
    return row | {"ratio_memory": theirs / ours, "megabytes": ours, "baseline_megabytes": theirs}


def one_amcl(gather: bool) -> Callable[[], None]:
    """A call for `peak_memory`: temperatures and objective of all heads, forward and backward."""
    z_a, z_b = (torch.stack(views).detach().requires_grad_() for views in heads(AMCL_HEADS, AMCL_PAIRS))
    phi = perceptron()
    cost = partial(amcl, gather=True) if gather else cheap_amcl
    return with_gradients(lambda: cost(z_a, z_b, phi).sum(), z_a, z_b)


def perceptron() -> torch.nn.Sequential:
    """What learns temperatures."""
    return torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, WIDTH))


def cheap_amcl(z_a: Tensor, z_b: Tensor, phi: Any) -> Tensor:
    """Soft AMCL over all views, as a model asks for it."""
    items = F.normalize(torch.cat([z_a, z_b], dim=-2))
    return F.soft_nt_xent(items, phi(items), LOW, HIGH, BETA, WIDTH)


def amcl(z_a: Tensor, z_b: Tensor, phi: Any, gather: bool = False) -> Tensor:
    """Its definition; `gather` forms each pair's temperature from gathered rows, (C, 2B, 2B - 2, D)."""
    items = F.normalize(torch.cat([z_a, z_b], dim=-2))
    scores = F.split_views(F.inner_products(items, items))
    learned = phi(items)
    agreement = F.split_views(F.inner_products(learned, learned))
    if gather:
        views = items.shape[-2]
        numbers = F.split_views(torch.arange(views).expand(views, views)).negative  # whom each view is told from
        rows = learned[:, numbers]
        agreement = F.PairScores(agreement.positive, (rows * learned[:, :, None]).sum(-1))
    return F.soft_contrast(scores, F.temperatures(agreement, LOW, HIGH), BETA, WIDTH)
