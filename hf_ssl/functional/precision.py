"""Objectives are computed in full precision, whatever the surrounding training does.

Correlations and log-sum-exps lose their meaning in half precision, so every public function lifts half tensors to
float32, leaves float32 and float64 as they are, and switches autocast off for itself and for its gradient.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
HALF = (torch.float16, torch.bfloat16)


def lift(value: Any) -> Any:
    """Return a half-precision tensor as float32 and anything else unchanged."""
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Context in which autocast leaves operations on `tensor`'s device alone."""
    return torch.autocast(tensor.device.type, enabled=False)


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate `function`, one of whose arguments is a tensor, to see float32 or better and no autocast."""

    @functools.wraps(function)
    def lifted(*args: P.args, **kwargs: P.kwargs) -> R:
        tensor = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with without_autocast(tensor):
            return function(*map(lift, args), **{name: lift(value) for name, value in kwargs.items()})  # type: ignore[arg-type]

    return lifted


class Products(torch.autograd.Function):
    """Inner products a @ b.mT, with gradients that autocast cannot reach."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """(..., N, D), (..., M, D) -> (..., N, M)."""
        ctx.save_for_backward(a, b)
        return a @ b.mT

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """(..., N, M) -> (..., N, D), (..., M, D)."""
        a, b = ctx.saved_tensors
        with without_autocast(grad):
            return grad @ b, grad.mT @ a
