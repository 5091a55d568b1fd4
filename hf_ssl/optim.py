"""Optimizers as the papers use them: parameter groups, timm's LARS, and one learning-rate function for the groups."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.optim import Lars
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hf_ssl import functional as F
from hf_ssl.arguments import TrainingArguments
from hf_ssl.plan import Plan

REFERENCE_BATCH = 256  # learning rates are given for this many images


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights, and the 1-D parameters (biases, norms) that neither decay nor adapt.

    The same again, marked `constant_rate`, for parts of the model whose rate follows no schedule.
    """
    constant = {id(p) for part in getattr(model, "constant_rate_parts", ()) for p in part.parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [p for p in trained if (p.ndim > 1) == weights and (id(p) in constant) == is_constant],
            "weight_decay": weight_decay if weights else 0.0,
            "constant_rate": is_constant,
        }
        for is_constant in (False, True)
        for weights in (True, False)
    ]
    return groups if constant else groups[:2]


def build_optimizer(model: nn.Module, arguments: TrainingArguments) -> Optimizer:
    """The optimizer named in `arguments`, its rates scaled from 256 images to the global batch.

    LARS leaves the trust ratio out of groups without weight decay (`always_adapt=False`), as Barlow Twins does.
    """
    scale = arguments.batch_size / REFERENCE_BATCH
    peak = arguments.learning_rate * scale
    decay = arguments.weight_decay or 0.0
    groups = parameter_groups(model, decay)
    if arguments.bias_learning_rate is not None:
        for group in groups[1::2]:
            group["lr"] = arguments.bias_learning_rate * scale
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())
    if arguments.optimizer == "lars":
        return Lars(groups, lr=peak, momentum=arguments.sgd_momentum, trust_coeff=1e-3, always_adapt=False)
    if arguments.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=peak, momentum=arguments.sgd_momentum, fused=fused)
    if arguments.optimizer == "adam":  # as published, decay is part of the gradient and spares no parameter
        return torch.optim.Adam([group | {"weight_decay": decay} for group in groups], lr=peak, fused=fused)
    return torch.optim.AdamW(groups, lr=peak, fused=fused)


def build_schedule(optimizer: Optimizer, arguments: TrainingArguments, plan: Plan, steps_done: int = 0) -> LambdaLR:
    """Warm-up and cosine of the papers, as a factor on each group's own peak, standing after `steps_done` steps.

    Groups marked `constant_rate` stay at their peak.
    """
    epochs = plan.total_steps / plan.steps_per_epoch
    factor = partial(
        F.learning_rate,
        total_steps=plan.total_steps,
        steps_per_epoch=plan.steps_per_epoch,
        peak=1.0,
        warmup_epochs=min(10.0, epochs / 10) if arguments.warmup_epochs is None else arguments.warmup_epochs,
        final_fraction=arguments.final_learning_rate_fraction,
        offset_epochs=arguments.schedule_offset_epochs,
        per=arguments.schedule_per,
    )
    factors: list[Callable[[int], float]] = [
        _one if group.get("constant_rate") else factor for group in optimizer.param_groups
    ]
    return LambdaLR(optimizer, factors, last_epoch=steps_done - 1)


def _one(step: int) -> float:
    return 1.0
