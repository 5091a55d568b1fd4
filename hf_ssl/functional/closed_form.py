"""Objectives whose gradient is written down beside their value instead of recorded step by step.

The gradient is formed together with the value, from the same intermediates, while they are still there; the graph then
holds it and nothing else. Backward scales it. A second derivative is refused.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


class ClosedForm(Protocol):
    """Value (...) of tensors (..., N, D), and with `gradients` one gradient in the shape of each."""

    def __call__(self, *inputs: Tensor, gradients: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Compute without autograd."""


def closed_form(compute: ClosedForm, *inputs: Tensor) -> Tensor:
    """Value of `compute` as a differentiable function of `inputs`; the gradients are formed only if any is wanted."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        return _WithGradient.apply(compute, *inputs)
    with torch.no_grad():
        return compute(*inputs, gradients=False)[0]


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Callable[..., Any], *inputs: Tensor) -> Tensor:
        value, gradients = compute(*inputs, gradients=True)
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [gradient * grad.detach()[..., None, None] for gradient in ctx.saved_tensors]
        if torch.is_grad_enabled():  # somebody means to differentiate again; unmarked, these would pass for constants
            scaled = [_Refusing.apply(gradient.requires_grad_()) for gradient in scaled]
        return None, *scaled


class _Refusing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise RuntimeError("this objective has a first derivative only; differentiate its definition twice instead.")
