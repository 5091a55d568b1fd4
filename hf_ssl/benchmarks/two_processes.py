"""Barlow Twins on two processes: gathering embeddings against summing cross-correlations over processes.

Gathering moves 2 B D numbers, the sum D x D of them; with gathered embeddings the cheap form needs no D x D matrix.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from hf_ssl import distributed
from hf_ssl import functional as F
from hf_ssl.benchmarks.clock import Timing, ratios
from hf_ssl.benchmarks.rows import Row, embeddings, time_row, with_gradients

WEIGHT, WIDTH, PROCESSES = 0.0051, 4096, 2
CASES = ((64, 6.0), (256, 3.0))  # rows of a process, the ratio to reach


class _SumOverProcesses(torch.autograd.Function):
    """The sum, whose gradient each process has already: what the published code leaves to `all_reduce`."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


def run(rounds: int) -> list[Row]:
    """A row a case, measured on process 0."""
    rows = []
    for share, bar in CASES:
        with tempfile.TemporaryDirectory() as folder:
            spawn(measure, (share, rounds, folder), nprocs=PROCESSES)
            timing = Timing(*json.loads((Path(folder) / "timing.json").read_text()))
        name = f"barlow_twins on {PROCESSES} processes, {share} rows each, D {WIDTH}"
        rows.append(time_row(name, "summed cross-correlation", timing, bar))
    return rows


def measure(rank: int, share: int, rounds: int, folder: str) -> None:
    """Time both forms in turn on one process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    z_a, z_b = embeddings(2, share, WIDTH)
    calls = {
        "gathered": with_gradients(lambda: gathered(z_a, z_b), z_a, z_b),
        "summed": with_gradients(lambda: summed(z_a, z_b), z_a, z_b),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(timed(call))
    if rank == 0:
        (Path(folder) / "timing.json").write_text(json.dumps(ratios(seconds["summed"], seconds["gathered"])))
    dist.destroy_process_group()


def timed(call: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of one call that all processes begin together."""
    dist.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def gathered(z_a: Tensor, z_b: Tensor) -> Tensor:
    """As the package does it."""
    return F.barlow_twins(distributed.gather(z_a), distributed.gather(z_b), WEIGHT)


def summed(z_a: Tensor, z_b: Tensor) -> Tensor:
    """As published: each process's part of the cross-correlation, summed; standardised by its own statistics."""
    a, b = (torch.nn.functional.batch_norm(z, None, None, training=True) for z in (z_a, z_b))
    correlation = _SumOverProcesses.apply(a.T @ b / (PROCESSES * len(a)))
    positive, negative = F.split_diagonal(correlation)
    return (positive - 1).pow(2).sum() + WEIGHT * negative.pow(2).sum()
