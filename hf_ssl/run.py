"""From options to a finished run folder: what `pretrain` does around the loop, in order."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import ProjectConfiguration

from hf_ssl import checkpoint, distributed, preflight, records
from hf_ssl.arguments import TrainingArguments
from hf_ssl.backbone import compile_in_place
from hf_ssl.data import make_batches, open_source
from hf_ssl.data.batches import refuse_batch_size
from hf_ssl.defaults import resolve
from hf_ssl.dry_run import dry_run
from hf_ssl.errors import UsageError
from hf_ssl.evaluation.results import Result, clean_command, merge
from hf_ssl.inputs import Inputs, make_inputs
from hf_ssl.interruption import EXIT_CODE, Interruption
from hf_ssl.methods import METHODS
from hf_ssl.monitor import make_probe
from hf_ssl.options import PretrainOptions
from hf_ssl.plan import Plan, make_plan
from hf_ssl.report.curves import draw_curves
from hf_ssl.repository import load_weights, refresh_card
from hf_ssl.runlog import write_status
from hf_ssl.trainer import Progress, pretrain

logger = logging.getLogger(__name__)


def pretrain_run(options: PretrainOptions, command: Sequence[str]) -> int:
    """Start a pretraining, or go on with the one in its folder: -> exit code (0 done, 75 stopped by a signal).

    Raises:
        UsageError: if the request is wrong, or the folder holds another run.
        HfSslError: if the run cannot go on.

    """
    with Interruption() as interruption:
        return _run(options, command, interruption)


def _run(options: PretrainOptions, command: Sequence[str], interruption: Interruption) -> int:
    data, arguments = options.data, options.training
    if not data.dataset:
        raise UsageError(
            "Name the images to train on: --dataset FOLDER, a Hub id, or an embedded name such as photos."
        )
    folder = Path(arguments.output_dir or f"runs/{options.method}-{Path(data.dataset).name}")
    accelerator = build_accelerator(arguments, folder)
    if not accelerator.is_main_process:
        logging.getLogger("hf_ssl").setLevel(logging.ERROR)
    source = open_source(
        data.dataset,
        config=data.dataset_config,
        split=data.split,
        image_column=data.image_column,
        streaming=data.streaming,
    )
    before = records.recorded(folder, arguments.resume)
    recipe = resolve(options, source, accelerator.num_processes, before)
    torch.manual_seed(arguments.seed)
    model = METHODS[options.method](METHODS[options.method].config_class(**options.settings))
    if arguments.init_from:
        load_weights(model, arguments.init_from)
    refuse_batch_size(arguments.batch_size, source.num_rows, accelerator.num_processes)
    model.check_data(arguments.batch_size, source.num_rows)
    per_epoch = source.num_rows and source.num_rows // arguments.batch_size
    mixes = bool(model.config.mix_weight)
    plan = make_plan(arguments, steps_per_epoch=per_epoch, num_processes=accelerator.num_processes, mixes=mixes)
    record = records.recipe_record(options, plan, accelerator.num_processes)
    resume_from = records.where_to_start(arguments, folder, record)
    if resume_from is not None and checkpoint.steps_done(resume_from) >= plan.total_steps and records.is_done(folder):
        logger.info("%s is already done at step %d.", folder, plan.total_steps)
        return 0
    batches = make_batches(
        source,
        batch_size=arguments.batch_size,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
        recipe=recipe,
        image_size=model.config.image_size,
        seed=arguments.seed,
        num_workers=data.num_workers,
        channels=model.config.in_chans,
        device=accelerator.device,
        on_device=data.data_on_device,
        max_bad_fraction=data.max_bad_fraction,
    )

    def inputs(step: int, position: Any) -> Iterator[Inputs]:
        return make_inputs(
            batches, recipe, model.config, arguments, plan, accelerator, start_step=step, position=position
        )

    preflight.check(model, arguments, plan, accelerator, folder)
    probe = make_probe(data, arguments, source, model.config, accelerator.device) if plan.evaluate_every else None
    if arguments.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if arguments.compile:
        compile_in_place(model)
    if arguments.dry_run:
        dry_run(model, next(inputs(0, None)), arguments, recipe, plan, accelerator, folder)
        return 0
    if distributed.any_process(interruption.asked):
        logger.info("Stopped before the first step: there is nothing to save.")
        return EXIT_CODE
    accelerator.wait_for_everyone()  # all have looked at the folder before it changes
    if accelerator.is_main_process:
        records.open_folder(folder, record, command, accelerator, resume_from)
    accelerator.wait_for_everyone()
    accelerator.init_trackers("hf_ssl")
    try:
        progress = pretrain(
            model,
            inputs,
            arguments,
            plan,
            accelerator=accelerator,
            folder=folder,
            publish=records.Publisher(record, folder),
            interruption=interruption,
            probe=probe,
            resume_from=resume_from,
        )
        rows: list[Result] = []
        if probe is not None and not progress.stopped and accelerator.is_main_process:
            rows = probe.rows(model, clean_command(command))
        return finish(progress, plan, folder, accelerator, rows)
    except BaseException as error:
        kept = checkpoint.newest(folder / "checkpoints")
        code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
        message = str(error) or type(error).__name__
        write_status(folder, accelerator, "failed", checkpoint.steps_done(kept) if kept else 0, kept, code, message)
        raise


def build_accelerator(arguments: TrainingArguments, folder: Path) -> Accelerator:
    """Accelerate for this process: precision, trackers, and DDP that leaves shared batch statistics alone."""
    if arguments.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UsageError("--mixed_precision fp16 needs a GPU; on a CPU take bf16 or no.")
    try:
        return Accelerator(
            mixed_precision=arguments.mixed_precision,
            log_with=records.trackers(arguments.report_to) or None,
            project_config=ProjectConfiguration(str(folder), str(folder / "trackers")),
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
        )
    except ValueError as error:
        raise UsageError(f"This device cannot train as asked: {error}. Try --mixed_precision no.") from None


def finish(progress: Progress, plan: Plan, folder: Path, accelerator: Accelerator, last_results: list[Result]) -> int:
    """Write what a run ends with: results, curves, status; -> exit code."""
    code = EXIT_CODE if progress.stopped else 0
    if accelerator.is_main_process:
        if last_results:
            merge(folder / "results.json", last_results)
            refresh_card(folder)
        draw_curves(folder)
    state, message = ("stopped", "stopped by a signal") if progress.stopped else ("done", "")
    write_status(folder, accelerator, state, progress.step, progress.path, code, message)
    accelerator.end_training()
    logger.info(
        "%s at step %d of %d: %s",
        "Stopped and saved; the same command goes on" if progress.stopped else "Done",
        progress.step,
        plan.total_steps,
        folder,
    )
    return code
