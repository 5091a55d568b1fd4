"""Rows of a benchmark, and what they are measured on."""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hf_ssl.benchmarks.clock import Timing

Row = dict[str, Any]


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
