"""What a run says while it goes on: log.jsonl, status.json, trackers, the progress line, and readings with a scale.

A loss has no scale that one could judge by (Barlow Twins starts in the thousands), so every log line also carries
readings that mean something anywhere: mean diagonal 1 and off-diagonal rms 0 are the goal, `chance_off_diagonal` is
the rms of unrelated embeddings, and an effective rank near 1 is collapse.
"""

import json
import logging
import math
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from hf_ssl import functional as F
from hf_ssl.errors import HfSslError
from hf_ssl.outputs import SSLOutput

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
REMEDY = "lower --learning_rate, lengthen --warmup_epochs, or train in float32. What was saved before is unharmed."
READING_ROWS = 512  # of a batch: enough for a reading, and cheap at any batch size
MOST_AT_BOUND = 0.95  # share of temperatures above which they no longer adapt
PLAIN_LINE_SECONDS = 10  # between progress lines where there is no terminal to draw a bar on


class Watch:
    """One run's readings, written by process 0 and computed where they are needed only on the steps that log."""

    def __init__(
        self, accelerator: Accelerator, folder: Path, *, total_steps: int, start_step: int, images_per_step: int
    ) -> None:
        self.accelerator = accelerator
        self.folder = folder
        self.total_steps = total_steps
        self.images_per_step = images_per_step
        self.waited, self.at_bound = 0.0, 0
        self.since, self.steps = time.perf_counter(), 0
        self.last_plain_line = -math.inf
        self.started, self.start_step = time.perf_counter(), start_step
        on_terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=total_steps,
            initial=start_step,
            unit="step",
            disable=not (accelerator.is_main_process and on_terminal),
            dynamic_ncols=True,
        )

    def waiting(self, items: Iterator[Item]) -> Iterator[Item]:
        """Pass `items` on, adding up the seconds until each was there."""
        while True:
            began = time.perf_counter()
            item = next(items)
            self.waited += time.perf_counter() - began
            self.steps += 1
            yield item
            self.bar.update()

    def step(
        self, step: int, epoch: int, output: SSLOutput, learning_rate: float, extra: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Log one optimizer step (counted from 1), with `extra` readings of the method.

        Raises:
            HfSslError: if the loss is not a finite number, naming the step and the terms.

        """
        loss, terms = finite_loss(output, step)
        now = time.perf_counter()
        seconds = max(now - self.since, 1e-9)
        readings = {**self.readings(output), **(extra or {})}
        self.watch_temperatures(readings)
        line = {
            "step": step,
            "epoch": epoch,
            "loss": loss,
            "terms": terms,
            "learning_rate": learning_rate,
            "images_per_second": self.steps * self.images_per_step / seconds,
            "data_wait": self.waited / seconds,
            "readings": readings,
            "peak_memory_bytes": peak_memory(self.accelerator.device),
        }
        self.since, self.steps, self.waited = now, 0, 0.0
        self.write(line)
        self.accelerator.log(
            {"loss": loss, **{f"terms/{k}": v for k, v in terms.items()}, "learning_rate": learning_rate}
            | {f"readings/{k}": v for k, v in readings.items() if isinstance(v, float)}
            | {k: line[k] for k in ("images_per_second", "data_wait")},
            step=step,
        )
        self.say(line)
        return line

    def watch_temperatures(self, readings: dict[str, Any]) -> None:
        """Warn when most temperatures are at a bound at two readings running; they may start there and leave it."""
        share = readings.get("temperature_at_bound", 0.0)
        self.at_bound = self.at_bound + 1 if share > MOST_AT_BOUND else 0
        if self.at_bound == 2:
            logger.warning(
                "%.0f %% of the learned temperatures are at a bound and adapt no more: widen --temperature_range or "
                "change --beta; with --amcl_objective hard and its published constants they always end there.",
                100 * share,
            )

    def refuse_broken(self, model: nn.Module, step: int) -> None:
        """Keep weights that are no numbers from being saved over good ones.

        Raises:
            HfSslError: naming the first parameter that is not finite.

        """
        for name, parameter in model.named_parameters():
            if not parameter.detach().isfinite().all():
                raise HfSslError(f"The weights '{name}' are not finite after step {step}: {REMEDY}")

    def readings(self, output: SSLOutput) -> dict[str, float]:
        """Numbers between known ends, from the embeddings of the batch (head 0, direction 0)."""
        anchors, targets = (side[0, 0, :READING_ROWS] for side in cast(tuple[Tensor, Tensor], output.embeddings))
        values = F.cross_correlation_readings(anchors, targets)
        values["effective_rank"] = F.effective_rank(anchors)
        values["chance_off_diagonal"] = torch.tensor(anchors.shape[0] ** -0.5)
        return {name: float(value) for name, value in values.items()}

    def say(self, line: dict[str, Any]) -> None:
        """Show a log line beside the bar, or as a plain line now and then where there is no terminal."""
        terms = " ".join(f"{name} {value:.4g}" for name, value in line["terms"].items())
        text = (
            f"loss {line['loss']:.4g} ({terms})  diagonal {line['readings']['diagonal_mean']:.2f}  "
            f"rank {line['readings']['effective_rank']:.0f}  {line['images_per_second']:.0f} images/s  "
            f"waiting {line['data_wait']:.0%}"
        )
        self.bar.set_postfix_str(text)
        now = time.perf_counter()
        done = line["step"] == self.total_steps
        if self.bar.disable and (done or now - self.last_plain_line > PLAIN_LINE_SECONDS):
            self.last_plain_line = now
            per_step = (now - self.started) / max(line["step"] - self.start_step, 1)
            left = f"{(self.total_steps - line['step']) * per_step / 60:.0f} min left"
            logger.info("step %d/%d  %s  %s", line["step"], self.total_steps, text, left)

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        """Log the outcome of a probe."""
        self.write({"step": step, "evaluation": values})
        self.accelerator.log({f"evaluation/{name}": value for name, value in values.items()}, step=step)
        logger.info("step %d  %s", step, "  ".join(f"{name} {value:.4f}" for name, value in values.items()))

    def restart_clock(self) -> None:
        """Leave out of the throughput what was just spent on something else than steps."""
        self.since, self.steps, self.waited = time.perf_counter(), 0, 0.0

    def write(self, line: dict[str, Any]) -> None:
        """Append one object to log.jsonl."""
        if self.accelerator.is_main_process:
            with (self.folder / "log.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")


def finite_loss(output: SSLOutput, step: int) -> tuple[float, dict[str, float]]:
    """Return the loss and its terms as numbers.

    Raises:
        HfSslError: if the loss is not a finite number, naming the step and the terms.

    """
    loss = float(cast(Tensor, output.loss).detach())
    terms = {name: float(value) for name, value in (output.terms or {}).items()}
    if not math.isfinite(loss):
        raise HfSslError(
            f"The loss is {loss} at step {step} ({', '.join(f'{k} {v:.4g}' for k, v in terms.items())}): {REMEDY}"
        )
    return loss, terms


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of the GPU's allocator on CUDA, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024)
