"""What the training loop costs over a bare step, and what a step costs against the published code.

All rows come from one run in which the variants take turns: step by step for the loop's overhead, which is small, and
round by round for the rest.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import normalize

from hf_ssl import functional as F
from hf_ssl.arguments import TrainingArguments
from hf_ssl.benchmarks.clock import compare
from hf_ssl.benchmarks.losses import published_mixed
from hf_ssl.inputs import Inputs
from hf_ssl.interruption import Interruption
from hf_ssl.methods import METHODS
from hf_ssl.modeling import SSLModel
from hf_ssl.optim import build_optimizer
from hf_ssl.plan import Plan
from hf_ssl.trainer import pretrain

BATCH, SIZE, WARM_UP, LOG_EVERY = 64, 32, 3, 10
SETTINGS = {  # the small-image network of Mixed Barlow Twins
    "backbone": "resnet18",
    "backbone_kwargs": {"zero_init_last": False},
    "stem": "small_nopool",
    "image_size": SIZE,
    "projector_dims": (512, 1024),
}


def run(rounds: int = 5) -> list[dict[str, Any]]:
    """Rows of the loop's overhead (T6) and of a Mixed Barlow Twins step against the published one (T5)."""
    return [overhead(rounds), *steps(rounds)]


def build() -> tuple[SSLModel, Tensor, F.Mix]:
    """A fresh model with fixed views and a fixed mix."""
    torch.manual_seed(0)
    method = METHODS["mixed_barlow_twins"]
    views = torch.randn(BATCH, 2, 3, SIZE, SIZE)
    return method(method.config_class(**SETTINGS)), views, F.draw_mix(BATCH, BATCH, torch.Generator().manual_seed(0))


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer, views: Tensor, mix: F.Mix) -> None:
    """One bare optimizer step."""
    model(views, mix).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def published_step(model: SSLModel, optimizer: torch.optim.Optimizer, views: Tensor, mix: F.Mix) -> None:
    """One step as published: seven D x D products, a plain Adam, the loss read back."""
    first, second = views.unbind(dim=1)
    mixed = mix.alpha * first + (1 - mix.alpha) * second[mix.permutation]
    z_a, z_b, z_mix = (normalize(model.embed(images)[0], dim=1) for images in (first, second, mixed))
    loss = published_mixed(z_mix, z_a, z_b, mix.permutation)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    loss.item()


def steps(rounds: int) -> list[dict[str, Any]]:
    """A Mixed Barlow Twins step in float32, and in bfloat16 with channels last, against the published one."""
    variants: dict[str, Callable[[], object]] = {}
    published, views, mix = build()
    adam = torch.optim.Adam(published.train().parameters(), lr=1e-3, weight_decay=1e-6, foreach=False)
    variants["published"] = lambda: published_step(published, adam, views, mix)
    for name, half in (("float32", False), ("bfloat16, channels last", True)):
        model, _, _ = build()
        if half:
            model = model.to(memory_format=torch.channels_last)
        optimizer = build_optimizer(model.train(), TrainingArguments(optimizer="adam", batch_size=BATCH))

        def ours(model: SSLModel = model, optimizer: torch.optim.Optimizer = optimizer, half: bool = half) -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                output = model(views, mix)
            output.loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        variants[name] = ours
    timings = compare(variants, baseline="published", rounds=rounds)
    bars = {"float32": "at least 1.0", "bfloat16, channels last": "at least 1.8"}
    return [
        {
            "name": f"Mixed Barlow Twins step, ResNet-18, batch 64, {name}",
            "baseline": "published step",
            **timings[name]._asdict(),
            "bar": bar,
        }
        for name, bar in bars.items()
    ]


def overhead(rounds: int) -> dict[str, Any]:
    """The Accelerate loop against a bare step on the same views; the bare step runs between the loop's steps.

    A round is as many steps as lie between two log lines, so that each holds one.
    """
    model, views, mix = build()
    bare, _, _ = build()
    arguments = TrainingArguments(batch_size=BATCH, report_to=["none"])
    optimizer = build_optimizer(bare.train(), arguments)
    loop_seconds: list[float] = []
    bare_seconds: list[float] = []

    def inputs(start: int, position: Any) -> Iterator[Inputs]:
        while True:
            began = time.perf_counter()
            step_of(bare, optimizer, views, mix)
            bare_seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
            yield Inputs(views, mix, 0, None)
            loop_seconds.append(time.perf_counter() - began)

    steps = rounds * LOG_EVERY + WARM_UP + 1
    plan = Plan(steps, steps, BATCH, log_every=LOG_EVERY, evaluate_every=0, save_every=0)
    with tempfile.TemporaryDirectory() as folder:
        pretrain(
            model,
            inputs,
            arguments,
            plan,
            accelerator=Accelerator(cpu=True),
            folder=Path(folder),
            publish=lambda model, folder: None,
            interruption=Interruption(),
        )
    ours, theirs = (
        [sum(seconds[start : start + LOG_EVERY]) / LOG_EVERY for start in range(WARM_UP, steps - 1, LOG_EVERY)]
        for seconds in (loop_seconds, bare_seconds)
    )
    return {
        "name": "Accelerate loop, ResNet-18, batch 64",
        "baseline": "bare step on the same views",
        "ratio_wall": statistics.median(one / other for one, other in zip(ours, theirs, strict=True)),
        "milliseconds": 1000 * statistics.median(ours),
        "baseline_milliseconds": 1000 * statistics.median(theirs),
        "bar": "time ratio at most 1.03",
    }
