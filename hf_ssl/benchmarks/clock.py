"""Fair clocks: variants take turns in one process, and what is reported is the median of same-round ratios.

On a shared machine a variant's own time moves by tens of percent, but what slows one round slows all its variants, so
the ratio of two times of one round holds still. CPU time is the ratio to trust when others use the cores. Ratios are
baseline / variant: above 1 the variant is faster.
"""

import importlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

SHORTEST = 0.02  # seconds a turn should last for the clock's grain not to matter
STATUS = Path("/proc/self/status")


class Timing(NamedTuple):
    """One variant against the baseline: median ratios, and both medians of wall milliseconds for one call."""

    ratio_wall: float
    ratio_cpu: float
    milliseconds: float
    baseline_milliseconds: float


def compare(
    variants: Mapping[str, Callable[[], object]], baseline: str, rounds: int = 5, seed: int = 0
) -> dict[str, Timing]:
    """Time every variant once a round, in an order drawn anew each round, against the one named `baseline`.

    Each is called once beforehand to warm up; a call shorter than 20 ms is repeated within its turn.
    """
    repeats = {name: _repeats(variant) for name, variant in variants.items()}
    order, generator = list(variants), random.Random(seed)
    wall: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        generator.shuffle(order)
        for name in order:
            wall_began, cpu_began = time.perf_counter(), time.process_time()
            for _ in range(repeats[name]):
                variants[name]()
            cpu[name].append((time.process_time() - cpu_began) / repeats[name])
            wall[name].append((time.perf_counter() - wall_began) / repeats[name])
    return {
        name: ratios(
            list(zip(wall[baseline], cpu[baseline], strict=True)), list(zip(wall[name], cpu[name], strict=True))
        )
        for name in variants
    }


def ratios(baseline: Sequence[tuple[float, float]], variant: Sequence[tuple[float, float]]) -> Timing:
    """Median ratios of the same rounds' (wall, CPU) seconds of one call, and both medians of wall time."""
    return Timing(
        ratio_wall=_median_ratio([wall for wall, _ in baseline], [wall for wall, _ in variant]),
        ratio_cpu=_median_ratio([cpu for _, cpu in baseline], [cpu for _, cpu in variant]),
        milliseconds=1000 * statistics.median(wall for wall, _ in variant),
        baseline_milliseconds=1000 * statistics.median(wall for wall, _ in baseline),
    )


def _repeats(variant: Callable[[], object]) -> int:
    variant()
    began = time.perf_counter()
    variant()
    return max(1, round(SHORTEST / (time.perf_counter() - began)))


def _median_ratio(baseline: list[float], variant: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(baseline, variant, strict=True))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Give torch `number` CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_memory(prepare: str, *arguments: Any) -> int:
    """Bytes that one call adds at its peak, measured in a fresh process so that no earlier allocation hides it.

    `prepare` names a function as "module:function"; with the JSON-able `arguments` it returns the call to measure, so
    that what it builds itself is not counted.
    """
    command = [sys.executable, "-m", __name__, prepare, json.dumps(arguments)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure(prepare: str, arguments: list[Any]) -> int:
    module, name = prepare.split(":")
    call = getattr(importlib.import_module(module), name)(*arguments)
    with threads(1):
        before = _resident(restart=True)
        call()
        return _resident() - before


def _resident(restart: bool = False) -> int:
    """Highest resident bytes so far; `restart` first forgets earlier heights, where the system can."""
    if STATUS.exists():
        if restart:
            Path("/proc/self/clear_refs").write_text("5")
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    sys.stdout.write(str(_measure(sys.argv[1], json.loads(sys.argv[2]))))
