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


def closed_form_by_head(compute: ClosedForm, *inputs: Tensor) -> Tensor:
    """`closed_form`; on a processor one matrix of (..., N, D) after the other, whose block then fits its cache."""
    first = inputs[0]
    if first.device.type != "cpu" or first.ndim == 2:
        return closed_form(compute, *inputs)
    heads = zip(*(tensor.flatten(0, -3) for tensor in inputs), strict=True)
    return torch.stack([closed_form(compute, *head) for head in heads]).view(first.shape[:-2])


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
