"""A run's first step without the run: what it costs, whether its loss is a number, and what its views look like."""

import logging
import time
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

from hf_ssl.arguments import TrainingArguments
from hf_ssl.augmentations import Recipe
from hf_ssl.inputs import Inputs
from hf_ssl.modeling import SSLModel
from hf_ssl.optim import build_optimizer
from hf_ssl.plan import Plan
from hf_ssl.watch import finite_loss

logger = logging.getLogger(__name__)


def dry_run(
    model: SSLModel,
    batch: Inputs,
    arguments: TrainingArguments,
    recipe: Recipe,
    plan: Plan,
    accelerator: Accelerator,
    folder: Path,
) -> None:
    """Take a step on one batch, twice; say how long the run will take, and draw the views.

    Raises:
        HfSslError: if the loss is not a finite number.

    """
    from hf_ssl.report.contact_sheet import contact_sheet  # plotting takes a second to import

    model.to(accelerator.device).train()
    optimizer = build_optimizer(model, arguments)
    for step in (1, 2):  # the first warms up
        began = time.perf_counter()
        with accelerator.autocast():
            output = model(batch.views, batch.mix)
        cast(Tensor, output.loss).backward()
        if arguments.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        model.temperature.readings(model, *output.embeddings)
        model.after_step(output, progress=1 / plan.total_steps)
        value, _ = finite_loss(output, step)  # waits for the device
        seconds = time.perf_counter() - began
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        contact_sheet(batch.views, recipe, folder / "views.png")
    logger.info(
        "Dry run: loss %.4g; %d steps of about %.2f s are %.1f hours; the views are in %s.",
        value,
        plan.total_steps,
        seconds,
        plan.total_steps * seconds / 3600,
        folder / "views.png",
    )
