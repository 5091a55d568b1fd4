"""Objectives forward and backward on one thread: time and memory against the published formulas, written out plainly.

The formulas form every D x D matrix and copy its off-diagonal, as the papers' algorithms do; lightly's losses stand
beside them where that package is installed.
"""

import platform
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hf_ssl import functional as F
from hf_ssl.benchmarks import amcl, two_processes
from hf_ssl.benchmarks.clock import compare, peak_memory, threads
from hf_ssl.benchmarks.rows import Row, absent_row, embeddings, installed, time_row, with_gradients

WEIGHT, MIX_WEIGHT, ALPHA, TEMPERATURE = 0.0051, 4.0, 0.3, 0.1
BARLOW_TWINS = ((256, 2048, 4.0), (256, 4096, 12.0), (1024, 1024, 0.95))  # B, D, the ratio to reach
MIXED = ((256, 1024, 6.0), (256, 4096, 25.0))
NT_XENT = ((2048, 128, 2.0),)
PEAKS = (("barlow_twins", 1024, 8192, 5.0), ("nt_xent", 4096, 128, 5.0))


def losses(rounds: int = 5) -> dict[str, Any]:
    """Every row, and the machine and version they were measured on, as JSON-able values."""
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1}
    return {"machine": machine, "rows": run(rounds)}


def run(rounds: int = 5) -> list[Row]:
    """Rows of ratios baseline / hf_ssl (above 1 is better), each with the bar it is held to."""
    with threads(1):
        rows = [row for sizes in BARLOW_TWINS for row in two_view_rows("barlow_twins", *sizes, rounds)]
        rows += [mixed_row(*sizes, rounds) for sizes in MIXED]
        rows += [row for sizes in NT_XENT for row in two_view_rows("nt_xent", *sizes, rounds)]
        rows += [peak_row(*peak, baseline) for peak in PEAKS for baseline in ("formula", "lightly")]
        return [*rows, *amcl.run(rounds), *two_processes.run(rounds)]


def two_view_rows(objective: str, batch: int, width: int, bar: float, rounds: int) -> list[Row]:
    """One objective of two views against its formula and against lightly."""
    name, variants = f"{objective} B {batch} D {width}", calls(objective, batch, width)
    rows = []
    for baseline in ("formula", "lightly"):
        if baseline in variants:
            pair = {key: variants[key] for key in ("hf_ssl", baseline)}
            rows.append(time_row(name, baseline, compare(pair, baseline, rounds)["hf_ssl"], bar))
        else:
            rows.append(absent_row(name, baseline, bar))
    return rows


def calls(objective: str, batch: int, width: int) -> dict[str, Callable[[], None]]:
    """Forward and backward of one objective on the same embeddings: ours, the formula, and lightly's if installed."""
    z_a, z_b = embeddings(2, batch, width)
    if objective == "barlow_twins":
        losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "hf_ssl": lambda z_a, z_b: F.barlow_twins(z_a, z_b, WEIGHT),
            "formula": published_barlow_twins,
        }
    else:
        losses = {"hf_ssl": lambda z_a, z_b: F.nt_xent(z_a, z_b, TEMPERATURE), "formula": published_nt_xent}
    if installed("lightly"):
        from lightly import loss as peers

        own = objective == "barlow_twins"
        losses["lightly"] = peers.BarlowTwinsLoss(WEIGHT) if own else peers.NTXentLoss(TEMPERATURE)
    return {name: with_gradients(partial(loss, z_a, z_b), z_a, z_b) for name, loss in losses.items()}


def mixed_row(batch: int, width: int, bar: float, rounds: int) -> Row:
    """Barlow Twins and the mix term together, as a model asks for them, against the seven matrices of the formula."""
    z_mix, z_a, z_b = embeddings(3, batch, width)
    permutation = torch.randperm(batch, generator=torch.Generator().manual_seed(0))

    def ours() -> Tensor:
        objective = F.barlow_twins(z_a, z_b, WEIGHT, "unbiased")
        consistency = F.mix_consistency(z_mix, z_a, z_b, ALPHA, permutation, "ab", "unbiased")
        return objective + MIX_WEIGHT * WEIGHT * consistency

    variants = {
        "hf_ssl": with_gradients(ours, z_mix, z_a, z_b),
        "formula": with_gradients(lambda: published_mixed(z_mix, z_a, z_b, permutation), z_mix, z_a, z_b),
    }
    times = compare(variants, baseline="formula", rounds=rounds)
    return time_row(f"mixed_barlow_twins B {batch} D {width}", "formula", times["hf_ssl"], bar)


def peak_row(objective: str, batch: int, width: int, bar: float, baseline: str) -> Row:
    """Peak memory of an objective against its formula or against lightly, each in a process of its own."""
    row = absent_row(f"{objective} peak memory B {batch} D {width}", baseline, bar)
    if baseline != "formula" and not installed(baseline):
        return row
    ours, theirs = (
        peak_memory(f"{__name__}:one_call", objective, variant, batch, width) / 1e6 for variant in ("hf_ssl", baseline)
    )
    return row | {"ratio_memory": theirs / ours, "megabytes": ours, "baseline_megabytes": theirs}


def one_call(objective: str, variant: str, batch: int, width: int) -> Callable[[], None]:
    """Return a call for `peak_memory`; a small one goes first, since libraries load at their first use."""
    calls(objective, 8, 16)[variant]()
    return calls(objective, batch, width)[variant]


def published_barlow_twins(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Eq. 1 with a BatchNorm's standardization, as printed: the whole C and a copy of its off-diagonal."""
    a, b = (torch.nn.functional.batch_norm(z, None, None, training=True) for z in (z_a, z_b))
    return published_objective(a.T @ b / len(a))


def published_objective(correlation: Tensor) -> Tensor:
    """Eq. 1 of a cross-correlation (D, D)."""
    positive, negative = F.split_diagonal(correlation)
    return (positive - 1).pow(2).sum() + WEIGHT * negative.pow(2).sum()


def published_mixed(z_mix: Tensor, z_a: Tensor, z_b: Tensor, permutation: Tensor) -> Tensor:
    """Algorithm of Mixed Barlow Twins, as printed: seven cross-correlations."""
    mix, a, b = ((z - z.mean(0)) / z.std(0) for z in (z_mix, z_a, z_b))
    shuffled, batch = b[permutation], len(a)
    difference_a = mix.T @ a / batch - ALPHA * (a.T @ a) / batch - (1 - ALPHA) * (shuffled.T @ a) / batch
    difference_b = mix.T @ b / batch - ALPHA * (a.T @ b) / batch - (1 - ALPHA) * (shuffled.T @ b) / batch
    consistency = difference_a.pow(2).sum() + difference_b.pow(2).sum()
    return published_objective(a.T @ b / batch) + MIX_WEIGHT * WEIGHT * consistency


def published_nt_xent(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Eq. 1 of SimCLR, as printed: all similarities, a copy without the diagonal, a cross-entropy."""
    items = torch.nn.functional.normalize(torch.cat([z_a, z_b]), dim=1)
    scores = items @ items.T / TEMPERATURE
    views, rows = len(items), torch.arange(len(z_a))
    others = scores[~torch.eye(views, dtype=torch.bool)].view(views, views - 1)
    return torch.nn.functional.cross_entropy(others, torch.cat([rows + len(rows) - 1, rows]))
