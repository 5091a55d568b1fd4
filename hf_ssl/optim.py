"""Optimizers as the papers use them: parameter groups, timm's LARS, and one learning-rate function for all groups."""

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
    """Weights, and the 1-D parameters (biases, norms) that neither decay nor adapt."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, arguments: TrainingArguments) -> Optimizer:
    """The optimizer named in `arguments`, its rates scaled from 256 images to the global batch.

    LARS leaves the trust ratio out of groups without weight decay (`always_adapt=False`), as Barlow Twins does.
    """
    scale = arguments.batch_size / REFERENCE_BATCH
    peak = arguments.learning_rate * scale
    decay = arguments.weight_decay or 0.0
    groups = parameter_groups(model, decay)
    if arguments.bias_learning_rate is not None:
        groups[1]["lr"] = arguments.bias_learning_rate * scale
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in model.parameters())
    if arguments.optimizer == "lars":
        return Lars(groups, lr=peak, momentum=arguments.sgd_momentum, trust_coeff=1e-3, always_adapt=False)
    if arguments.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=peak, momentum=arguments.sgd_momentum, fused=fused)
    if arguments.optimizer == "adam":  # as published, decay is part of the gradient and spares no parameter
        return torch.optim.Adam(model.parameters(), lr=peak, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(groups, lr=peak, fused=fused)


def build_schedule(optimizer: Optimizer, arguments: TrainingArguments, plan: Plan, steps_done: int = 0) -> LambdaLR:
    """Warm-up and cosine of the papers, as a factor on every group's own peak, standing after `steps_done` steps."""
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
    return LambdaLR(optimizer, factor, last_epoch=steps_done - 1)
