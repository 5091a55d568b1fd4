"""From a batch of images to what a training step eats: two views of each image, and how they are mixed."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from accelerate import Accelerator
from torch import Tensor

from hf_ssl import functional as F
from hf_ssl.arguments import TrainingArguments
from hf_ssl.augmentations import Recipe, apply_views, draw_parameters, move
from hf_ssl.configuration import SSLConfig
from hf_ssl.data import Batches
from hf_ssl.plan import Plan
from hf_ssl.seeds import step_generator


class Inputs(NamedTuple):
    """One step's inputs on the training device."""

    views: Tensor  # (b, 2, C, H, W) float32
    mix: F.Mix | None
    epoch: int
    position: Any  # this process's place in the data after the step


def make_inputs(
    batches: Batches,
    recipe: Recipe,
    config: SSLConfig,
    arguments: TrainingArguments,
    plan: Plan,
    accelerator: Accelerator,
    *,
    start_step: int = 0,
    position: Any = None,
) -> Iterator[Inputs]:
    """Endless inputs from `start_step` (from 0) or, for a stream, from `position`.

    Views and mix are drawn for all rows of the global batch from (seed, step), and each process keeps its own rows; so
    they do not depend on the number of processes.
    """
    share = arguments.batch_size // accelerator.num_processes
    rows = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    for batch in batches.iterate(start_step, position):
        parameters = draw_parameters(
            recipe, arguments.batch_size, step_generator(arguments.seed, batch.step, "views")
        ).rows(rows)
        images = move(batch.images, accelerator.device)
        views = apply_views(images, batch.crops, parameters, recipe, config.image_size)
        mix = None
        if plan.mix_group_size is not None:
            scale = F.mix_warmup(
                batch.step, steps_per_epoch=plan.steps_per_epoch, warmup_epochs=config.mix_warmup_epochs
            )
            generator = step_generator(arguments.seed, batch.step, "mix")
            mix = F.draw_mix(arguments.batch_size, plan.mix_group_size, generator, scale)
            mix = F.Mix(*(move(value, accelerator.device) for value in mix))
        yield Inputs(views, mix, batch.epoch, batch.position)
