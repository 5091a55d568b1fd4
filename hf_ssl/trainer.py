"""The training loop: one page, one direction, nothing about any particular method.

There is no gradient accumulation: these objectives compare the images of a batch with each other, so two half
batches are not one whole batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hf_ssl import checkpoint, distributed
from hf_ssl.arguments import TrainingArguments
from hf_ssl.inputs import Inputs
from hf_ssl.interruption import Interruption
from hf_ssl.modeling import SSLModel
from hf_ssl.optim import build_optimizer, build_schedule
from hf_ssl.plan import Plan
from hf_ssl.runlog import write_status
from hf_ssl.watch import Watch

Probe = Callable[[SSLModel], dict[str, float]]


@dataclass
class Progress:
    """Where a run is, beyond what Accelerate saves."""

    step: int = 0  # optimizer steps done
    position: Any = None  # this process's place in the data
    best: float | None = None  # the best value so far of the metric that is kept
    path: Path | None = None  # the newest checkpoint
    stopped: bool = False  # by a signal, before the last step


def pretrain(
    model: SSLModel,
    inputs: Callable[[int, Any], Iterator[Inputs]],
    arguments: TrainingArguments,
    plan: Plan,
    *,
    accelerator: Accelerator,
    folder: Path,
    publish: Callable[[SSLModel, Path], None],
    interruption: Interruption,
    probe: Probe | None = None,
    resume_from: Path | None = None,
) -> Progress:
    """Train `model` in place for what is left of `plan.total_steps`: -> where the run is then.

    `inputs(step, position)` gives the steps' inputs from a step, or for a stream from a position, on.
    `publish(model, folder)` writes the loadable model at every save, and to `folder/best` at every best probe.

    Raises:
        HfSslError: if the loss is not finite, too many images are bad, or the disk is full.

    """
    distributed.convert_batch_norm(model.to(accelerator.device), accelerator.device)
    own_optimizer = build_optimizer(model, arguments)
    wrapped, optimizer = accelerator.prepare(model, own_optimizer)
    progress = Progress()
    if resume_from is not None:
        state, progress.position = checkpoint.restore(accelerator, resume_from)
        progress.step, progress.best, progress.path = state["step"], state["best"], resume_from
    schedule = build_schedule(own_optimizer, arguments, plan, steps_done=progress.step)
    watch = Watch(
        accelerator,
        folder,
        total_steps=plan.total_steps,
        start_step=progress.step,
        images_per_step=arguments.batch_size,
    )

    def save() -> None:
        watch.refuse_broken(model, progress.step)
        state = {"step": progress.step, "best": progress.best}
        progress.path = checkpoint.save(
            accelerator, folder / "checkpoints", state, progress.position, arguments.keep_last
        )
        if accelerator.is_main_process:
            publish(model, folder)
        write_status(folder, accelerator, "running", progress.step, progress.path)
        watch.restart_clock()

    def evaluate(probe: Probe) -> None:
        values = probe(model) if accelerator.is_main_process else {}
        accelerator.wait_for_everyone()
        model.train()
        value = values.get(arguments.keep_best)
        better = progress.step > 0 and value is not None and (progress.best is None or value > progress.best)
        watch.evaluation(progress.step, values)
        if better:
            progress.best = value
            publish(model, folder / "best")
        watch.restart_clock()

    write_status(folder, accelerator, "running", progress.step, progress.path)
    if progress.step >= plan.total_steps:  # it was stopped after its last step, before all was written
        if accelerator.is_main_process:
            publish(model, folder)
        return progress
    if probe is not None and plan.evaluate_every and progress.step == 0:
        evaluate(probe)  # where the curve starts: the network before training
    model.train()
    for batch in watch.waiting(inputs(progress.step, progress.position)):
        seed_dropout(arguments.seed, progress.step, accelerator.process_index)
        learning_rate = float(schedule.get_last_lr()[0])
        output = wrapped(batch.views, batch.mix)
        accelerator.backward(output.loss)
        if arguments.max_grad_norm is not None:
            accelerator.clip_grad_norm_(wrapped.parameters(), arguments.max_grad_norm)
        due = progress.step == 0 or any(
            plan.due(every, progress.step + 1) for every in (plan.log_every, plan.save_every, plan.total_steps)
        )
        logged = due and accelerator.is_main_process
        extra = model.temperature.readings(model, *output.embeddings) if logged else {}  # while the queue is as it was
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        progress.step += 1
        progress.position = batch.position
        model.after_step(output, progress=progress.step / plan.total_steps)

        done = progress.step == plan.total_steps
        progress.stopped = distributed.any_process(interruption.asked) and not done
        saving = done or progress.stopped or plan.due(plan.save_every, progress.step)
        if due or progress.stopped:
            watch.step(progress.step, batch.epoch, output, learning_rate, extra)
        if probe is not None and plan.due(plan.evaluate_every, progress.step):
            evaluate(probe)
        if saving:
            save()
        if done or progress.stopped:
            break
    return progress


def seed_dropout(seed: int, step: int, process: int) -> None:
    """Make what a step draws besides views and mix depend on the step alone, so that a resume changes nothing."""
    torch.manual_seed(((seed * 1_000_003 + step) * 1_009 + process) % 2**63)
