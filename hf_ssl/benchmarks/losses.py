"""Objectives forward and backward on one thread: time and memory against the published formulas, written out plainly.

The formulas form every D x D matrix and copy its off-diagonal, as the papers' algorithms do; lightly's losses stand
beside them where that package is installed.
"""

import importlib.util
import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_ssl import functional as F
from hf_ssl.benchmarks.clock import Timing, compare, peak_memory, threads

WEIGHT, MIX_WEIGHT, ALPHA = 0.0051, 4.0, 0.3
BARLOW_TWINS = ((256, 2048, 4.0), (256, 4096, 12.0), (1024, 1024, 0.95))  # B, D, the ratio to reach
MIXED = ((256, 1024, 6.0), (256, 4096, 25.0))
PEAK = (1024, 8192, 5.0)

Row = dict[str, Any]


def losses(rounds: int = 5) -> dict[str, Any]:
    """Every row, and the machine and version they were measured on, as JSON-able values."""
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1}
    return {"machine": machine, "rows": run(rounds)}


def run(rounds: int = 5) -> list[Row]:
    """Rows of ratios baseline / hf_ssl (above 1 is better), each with the bar it is held to."""
    with threads(1):
        rows = [row for case in BARLOW_TWINS for row in barlow_twins_rows(*case, rounds)]
        rows += [mixed_row(*case, rounds) for case in MIXED]
        return [*rows, peak_row(*PEAK)]


def barlow_twins_rows(batch: int, width: int, bar: float, rounds: int) -> list[Row]:
    """Barlow Twins against its formula and against lightly."""
    name = f"barlow_twins B {batch} D {width}"
    z_a, z_b = embeddings(2, batch, width)
    variants = {
        "hf_ssl": with_gradients(lambda: F.barlow_twins(z_a, z_b, WEIGHT), z_a, z_b),
        "formula": with_gradients(lambda: published_barlow_twins(z_a, z_b), z_a, z_b),
    }
    if not installed("lightly"):
        times = compare(variants, baseline="formula", rounds=rounds)
        return [time_row(name, "formula", times["hf_ssl"], bar), absent_row(name, "lightly", bar)]
    from lightly.loss import BarlowTwinsLoss

    peer = BarlowTwinsLoss(lambda_param=WEIGHT)
    variants["lightly"] = with_gradients(lambda: peer(z_a, z_b), z_a, z_b)
    rows = []
    for baseline in ("formula", "lightly"):
        pair = {key: variants[key] for key in ("hf_ssl", baseline)}
        rows.append(time_row(name, baseline, compare(pair, baseline, rounds)["hf_ssl"], bar))
    return rows


def mixed_row(batch: int, width: int, bar: float, rounds: int) -> Row:
    """Barlow Twins and the mix term together, as a model asks for them, against the seven matrices of the formula."""
    z_mix, z_a, z_b = embeddings(3, batch, width)
    permutation = torch.randperm(batch, generator=torch.Generator().manual_seed(0))

    def ours() -> Tensor:
        objective = F.barlow_twins(z_a, z_b, WEIGHT, "unbiased")
        return objective + MIX_WEIGHT * WEIGHT * F.mix_consistency(
            z_mix, z_a, z_b, ALPHA, permutation, "ab", "unbiased"
        )

    variants = {
        "hf_ssl": with_gradients(ours, z_mix, z_a, z_b),
        "formula": with_gradients(lambda: published_mixed(z_mix, z_a, z_b, permutation), z_mix, z_a, z_b),
    }
    times = compare(variants, baseline="formula", rounds=rounds)
    return time_row(f"mixed_barlow_twins B {batch} D {width}", "formula", times["hf_ssl"], bar)


def peak_row(batch: int, width: int, bar: float) -> Row:
    """Peak memory of Barlow Twins, each in a process of its own."""
    ours, theirs = (
        peak_memory(f"{__name__}:one_barlow_twins", name, batch, width) / 1e6 for name in ("hf_ssl", "formula")
    )
    row = absent_row(f"barlow_twins peak memory B {batch} D {width}", "formula", bar)
    return row | {"ratio_memory": theirs / ours, "megabytes": ours, "baseline_megabytes": theirs}


def one_barlow_twins(name: str, batch: int, width: int) -> Callable[[], None]:
    """Return a call for `peak_memory`: Barlow Twins forward and backward, ours or by the formula."""
    z_a, z_b = embeddings(2, batch, width)
    if name == "hf_ssl":
        return with_gradients(lambda: F.barlow_twins(z_a, z_b, WEIGHT), z_a, z_b)
    return with_gradients(lambda: published_barlow_twins(z_a, z_b), z_a, z_b)


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


def embeddings(count: int, batch: int, width: int) -> list[Tensor]:
    """Independent normal embeddings (B, D) that ask for gradients."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, width, generator=generator).requires_grad_() for _ in range(count)]


def with_gradients(objective: Callable[[], Tensor], *inputs: Tensor) -> Callable[[], None]:
    """Return a call that computes `objective` and the gradients of `inputs`."""

    def call() -> None:
        for z in inputs:
            z.grad = None
        objective().backward()

    return call


def installed(package: str) -> bool:
    """Whether a peer can be measured here."""
    return importlib.util.find_spec(package) is not None


def time_row(name: str, baseline: str, timing: Timing, bar: float) -> Row:
    """Make a row of times."""
    return {"name": name, "baseline": baseline, **timing._asdict(), "bar": bar}


def absent_row(name: str, baseline: str, bar: float) -> Row:
    """Make a row without times: a peer that is not installed, or a reading that is not a time."""
    return {"name": name, "baseline": baseline, **dict.fromkeys(Timing._fields), "bar": bar}
