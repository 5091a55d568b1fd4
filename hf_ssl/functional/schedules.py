"""Numbers that change over a run, each a pure function of the step.

Steps count from 0 and are optimizer steps; warm-ups are given in epochs, of `steps_per_epoch` steps.
"""

import math
from typing import Literal


def learning_rate(
    step: int,
    *,
    total_steps: int,
    steps_per_epoch: float,
    peak: float,
    warmup_epochs: float,
    final_fraction: float,
    offset_epochs: float = 0,
    per: Literal["step", "epoch"] = "step",
) -> float:
    """Rise in a line from 0 to `peak`, then fall along half a cosine to `final_fraction` of it.

    Barlow Twins has per "step", fraction 0.001 and no offset. `offset_epochs` starts the clock later: 1 for the
    small-image code of Mixed Barlow Twins, whose epochs count from one, so that its last epoch runs past the end of
    the cosine. Per "epoch" holds each epoch's first value.
    """
    now = float(step)
    if per == "epoch":
        now = step // steps_per_epoch * steps_per_epoch
    now += offset_epochs * steps_per_epoch
    warmup = warmup_epochs * steps_per_epoch
    if now < warmup:
        return peak * now / warmup
    share = 0.5 * (1 + math.cos(math.pi * (now - warmup) / max(total_steps - warmup, 1.0)))
    return peak * (share + final_fraction * (1 - share))


def mix_warmup(step: int, *, steps_per_epoch: float, warmup_epochs: float) -> float:
    """Factor on the mix term, in [0, 1]: a line over `warmup_epochs`, 1 throughout if there are none."""
    warmup = warmup_epochs * steps_per_epoch
    return min(step / warmup, 1.0) if warmup > 0 else 1.0


def momentum(
    step: float,
    *,
    total_steps: int,
    start: float,
    final: float = 1.0,
    schedule: Literal["constant", "cosine"] = "constant",
) -> float:
    """Momentum of the slow encoder: `start` throughout, or along half a cosine from `start` to `final` (MoCo v3)."""
    if schedule == "constant":
        return start
    return final - (final - start) * 0.5 * (1 + math.cos(math.pi * min(step / total_steps, 1.0)))
