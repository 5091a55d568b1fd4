"""Contrastive objectives forward and backward on one thread: time and memory against plain formulas and lightly."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_ssl import functional as F
from hf_ssl.benchmarks.clock import compare, peak_memory
from hf_ssl.benchmarks.rows import Row, absent_row, embeddings, installed, time_row, with_gradients

TEMPERATURE, PAIRS, WIDTH, BAR = 0.1, 2048, 128, 2.0
MEMORY_PAIRS, MEMORY_BAR = 4096, 5.0
HEADS, HEAD_PAIRS = 5, 512
AMCL_PAIRS, AMCL_HEADS, AMCL_BAR = 512, 3, 5.0


def run(rounds: int) -> list[Row]:
    """Rows of NT-Xent's time and memory, of heads side by side, and of AMCL's memory."""
    return [*nt_xent_rows(rounds), *memory_rows(), heads_row(rounds), amcl_memory_row()]


def nt_xent_rows(rounds: int) -> list[Row]:
    """NT-Xent against its formula, and against lightly where that is installed."""
    name = f"nt_xent pairs {PAIRS} D {WIDTH}"
    z_a, z_b = embeddings(2, PAIRS, WIDTH)
    variants = {
        "hf_ssl": with_gradients(lambda: F.nt_xent(z_a, z_b, TEMPERATURE), z_a, z_b),
        "formula": with_gradients(lambda: published_nt_xent(z_a, z_b), z_a, z_b),
    }
    rows = [time_row(name, "formula", compare(variants, "formula", rounds)["hf_ssl"], BAR)]
    if not installed("lightly"):
        return [*rows, absent_row(name, "lightly", BAR)]
    peer = lightly_nt_xent()
    variants["lightly"] = with_gradients(lambda: peer(z_a, z_b), z_a, z_b)
    pair = {key: variants[key] for key in ("hf_ssl", "lightly")}
    return [*rows, time_row(name, "lightly", compare(pair, "lightly", rounds)["hf_ssl"], BAR)]


def lightly_nt_xent() -> Callable[[Tensor, Tensor], Tensor]:
    """The peer's loss."""
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=TEMPERATURE)


def memory_rows() -> list[Row]:
    """Peak memory of NT-Xent, each in a process of its own."""
    peers = ("formula", "lightly") if installed("lightly") else ("formula",)
    return [memory_row(f"nt_xent peak memory pairs {MEMORY_PAIRS}", "one_nt_xent", peer, MEMORY_BAR) for peer in peers]


def memory_row(name: str, function: str, peer: str, bar: float) -> Row:
    """Megabytes that one call adds, ours and the peer's."""
    ours, theirs = (peak_memory(f"{__name__}:{function}", side) / 1e6 for side in ("hf_ssl", peer))
    return absent_row(name, peer, bar) | {
        "ratio_memory": theirs / ours,
        "megabytes": ours,
        "baseline_megabytes": theirs,
    }


def one_nt_xent(side: str) -> Callable[[], None]:
    """A call for `peak_memory`: NT-Xent forward and backward."""
    z_a, z_b = embeddings(2, MEMORY_PAIRS, WIDTH)
    if side == "hf_ssl":
        return with_gradients(lambda: F.nt_xent(z_a, z_b, TEMPERATURE), z_a, z_b)
    if side == "lightly":
        peer = lightly_nt_xent()
        return with_gradients(lambda: peer(z_a, z_b), z_a, z_b)
    return with_gradients(lambda: published_nt_xent(z_a, z_b), z_a, z_b)


def heads_row(rounds: int) -> Row:
    """C heads at once against C single-head losses."""
    z_a, z_b = (torch.stack(side).detach().requires_grad_() for side in heads(HEADS, HEAD_PAIRS))
    variants = {
        "hf_ssl": with_gradients(lambda: F.nt_xent(z_a, z_b, TEMPERATURE).sum(), z_a, z_b),
        "loop": with_gradients(
            lambda: torch.stack([F.nt_xent(a, b, TEMPERATURE) for a, b in zip(z_a, z_b, strict=True)]).sum(), z_a, z_b
        ),
    }
    timing = compare(variants, "loop", rounds)["hf_ssl"]
    return time_row(f"nt_xent {HEADS} heads, pairs {HEAD_PAIRS}", "a loop over heads", timing, 1.0)


def heads(count: int, pairs: int) -> tuple[list[Tensor], list[Tensor]]:
    """Embeddings of two views for several heads."""
    flat = embeddings(2 * count, pairs, WIDTH)
    return flat[:count], flat[count:]


def amcl_memory_row() -> Row:
    """AMCL's soft objective with its temperatures, against gathering the embeddings of every pair as published."""
    name = f"amcl peak memory pairs {AMCL_PAIRS}, {AMCL_HEADS} heads"
    return memory_row(name, "one_amcl", "pairwise gather", AMCL_BAR)


def one_amcl(side: str) -> Callable[[], None]:
    """A call for `peak_memory`: temperatures and objective of all heads, forward and backward."""
    z_a, z_b = (torch.stack(views).detach().requires_grad_() for views in heads(AMCL_HEADS, AMCL_PAIRS))
    phi = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, WIDTH))
    return with_gradients(lambda: amcl(z_a, z_b, phi, gather=side != "hf_ssl"), z_a, z_b)


def amcl(z_a: Tensor, z_b: Tensor, phi: Any, gather: bool) -> Tensor:
    """Soft AMCL over all views; `gather` forms each pair's temperature from gathered rows, (C, 2B, 2B - 2, D)."""
    items = F.normalize(torch.cat([z_a, z_b], dim=-2))
    scores = F.split_views(F.inner_products(items, items))
    learned = phi(items)
    agreement = F.split_views(F.inner_products(learned, learned))
    if gather:
        views = items.shape[-2]
        numbers = F.split_views(torch.arange(views).expand(views, views)).negative  # whom each view is told from
        rows = learned[:, numbers]
        agreement = F.PairScores(agreement.positive, (rows * learned[:, :, None]).sum(-1))
    temperature = F.temperatures(agreement, 0.05, 1.0)
    return F.soft_contrast(scores, temperature, 0.01, WIDTH).sum()


def published_nt_xent(z_a: Tensor, z_b: Tensor) -> Tensor:
    """NT-Xent as printed: the whole matrix of similarities, its diagonal left out."""
    items = torch.nn.functional.normalize(torch.cat([z_a, z_b]), dim=1)
    logits = items @ items.T / TEMPERATURE
    logits.fill_diagonal_(-math.inf)
    labels = torch.arange(len(items)).roll(len(z_a))
    return torch.nn.functional.cross_entropy(logits, labels)
