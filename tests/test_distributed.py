"""Several processes are one: in loss, gradient, running statistics, and in everything they have to agree on."""

import copy
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny import small_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hf_ssl import distributed
from hf_ssl import functional as F
from hf_ssl.methods import METHODS

BATCH, GROUP = 12, 3  # GROUP is at most the rows of one of four processes
LEARNING_RATE = (
    3e-4  # gradients are 200 to 1,000 long; three times more, and rounding grows fivefold a step on its own
)
RESNET = {"backbone": "resnet10t", "backbone_kwargs": {"channels": [8, 8, 16, 16], "stem_width": 8}}
MOBILENET = {"backbone": "mobilenetv3_small_050"}  # its BatchNorm carries the activation


@dataclass(frozen=True)
class Case:
    """One training to repeat on any number of processes."""

    method: str
    settings: tuple[tuple[str, Any], ...]
    steps: int
    dtype: torch.dtype


def case(
    method: str, network: dict[str, Any], steps: int, dtype: torch.dtype = torch.float64, **settings: Any
) -> Case:
    return Case(method, tuple({**network, **settings}.items()), steps, dtype)


SINGLE = torch.float32
QUICK = {
    "barlow_twins-resnet": case("barlow_twins", RESNET, 5),
    "mixed_barlow_twins-resnet": case("mixed_barlow_twins", RESNET, 20, num_heads=2),
    "mixed_barlow_twins-mobilenet": case("mixed_barlow_twins", MOBILENET, 2),
    "mixed_barlow_twins-resnet-float32": case("mixed_barlow_twins", RESNET, 1, SINGLE),
    "mixed_barlow_twins-mobilenet-float32": case("mixed_barlow_twins", MOBILENET, 1, SINGLE),
    "moco-groups-resnet": case("moco", RESNET, 2, key_batch_norm_groups=3),
    **{
        f"{name}-resnet": case(name, RESNET, 2)
        for name in (*METHODS, "simclr+amcl+mix", "moco+amcl+mix", "moco_v3+amcl+mix", "simsiam+amcl")
        if name not in ("barlow_twins", "mixed_barlow_twins")
    },
}
LONG = {
    f"{method}-{name}": case(method, network, 20)
    for method in ("barlow_twins", "mixed_barlow_twins")
    for name, network in (("resnet", RESNET), ("mobilenet", MOBILENET))
}
PLANS = {"quick": QUICK, "long": LONG}


def train(case: Case) -> dict[str, Any]:
    """This process's share of the training: losses, the first step's gradients, and the state after the last."""
    model = small_model(case.method, **dict(case.settings)).to(case.dtype)
    names = list(model.state_dict())
    model = distributed.convert_batch_norm(model)
    assert list(model.state_dict()) == names
    world, rank = distributed.world_size(), distributed.rank()
    wrapped = DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    rows = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    losses, gradients = [], {}
    for step in range(case.steps):
        generator = torch.Generator().manual_seed(step)
        views = torch.randn(BATCH, 2, 3, 32, 32, generator=generator, dtype=torch.float64).to(case.dtype)
        mix = F.draw_mix(BATCH, GROUP, generator)
        optimizer.zero_grad()
        output = wrapped(views[rows], mix)
        output.loss.backward()
        losses.append(output.loss.detach())
        gradients = gradients or {path: p.grad.clone() for path, p in model.named_parameters() if p.requires_grad}
        optimizer.step()
        model.after_step(output, progress=(step + 1) / case.steps)
    return {"losses": torch.stack(losses), "gradients": gradients, "state": dict(model.state_dict())}


def transposed_cost(rows: torch.Tensor) -> torch.Tensor:
    """A number whose gradient comes back with the strides of a transposed tensor; torch's own gather permutes it."""
    columns = rows.mT.contiguous()
    return (columns * torch.arange(columns.numel()).view_as(columns)).square().sum()


def small_things() -> dict[str, Any]:
    """What does not need a model."""
    world, rank = distributed.world_size(), distributed.rank()
    drawn = torch.tensor([float(rank)])
    z = torch.arange(24.0).view(1, 1, 12, 2)[:, :, rank * 12 // world : (rank + 1) * 12 // world].requires_grad_()
    gathered = distributed.gather(z)
    transposed_cost(gathered).backward()
    torch.manual_seed(rank)  # processes that draw for themselves still blend alike
    undrawn = distributed.convert_batch_norm(small_model("mixed_barlow_twins", num_heads=1))
    torch.manual_seed(rank)
    views = torch.randn(BATCH, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    rows = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    return {
        "agreed": distributed.agree(drawn),
        "untouched": drawn,
        "any": [distributed.any_process(flag) for flag in (False, True, rank == world - 1)],
        "gathered": gathered.detach(),
        "gradient": z.grad / world,
        "own_mix": undrawn(views[rows]).terms["mix"],
    }


def work(rank: int, world: int, plan: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    dist.barrier()
    results = {name: train(case) for name, case in PLANS[plan].items()} | {"small": small_things()}
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def launch(world: int, plan: str, folder: Path) -> list[dict[str, Any]]:
    multiprocessing.set_forkserver_preload(["torch.nn.parallel", "timm", "transformers.modeling_utils"])
    mp.start_processes(work, (world, plan, str(folder)), nprocs=world, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    return launch(2, "quick", tmp_path_factory.mktemp("processes"))


def compare(found: dict[str, Any], case: Case) -> None:
    expected = train(case)
    rtol, atol = (1e-8, 1e-10) if case.dtype == torch.float64 else (1e-5, 1e-5)
    torch.testing.assert_close(found["losses"], expected["losses"], rtol=rtol, atol=0)
    largest = max(gradient.abs().max().item() for gradient in expected["gradients"].values())
    torch.testing.assert_close(found["gradients"], expected["gradients"], rtol=rtol, atol=atol * largest)
    torch.testing.assert_close(found["state"], expected["state"], rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", QUICK)
def test_two_processes_equal_one(name, processes):
    """Bugs: statistics per process, a gradient divided by the processes, local permutations, lost activations."""
    for found in processes:
        compare(found[name], QUICK[name])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("world", [2, 4])
def test_many_steps_of_many_processes_equal_one(world, tmp_path):
    for found in launch(world, "long", tmp_path):
        for name, case in LONG.items():
            compare(found[name], case)


def test_processes_agree(processes):
    world = len(processes)
    for rank, result in enumerate(process["small"] for process in processes):
        assert result["agreed"].item() == 0 and result["untouched"].item() == rank
        assert result["any"] == [False, True, True]
        assert result["own_mix"].item() == processes[0]["small"]["own_mix"].item()
        torch.testing.assert_close(result["gathered"], torch.arange(24.0).view(1, 1, 12, 2))
    rows = torch.arange(24.0).view(1, 1, 12, 2).requires_grad_()
    transposed_cost(rows).backward()
    gradients = torch.cat([process["small"]["gradient"] for process in processes], dim=-2)
    torch.testing.assert_close(gradients, rows.grad)
    assert world > 1


def test_one_process_needs_no_other():
    tensor = torch.randn(3, requires_grad=True)
    assert distributed.world_size() == 1 and distributed.rank() == 0
    assert distributed.gather(tensor) is tensor and distributed.agree(tensor) is tensor
    assert distributed.any_process(True) and not distributed.any_process(False)
    model = nn.BatchNorm1d(3)
    assert distributed.convert_batch_norm(model) is model


@pytest.fixture
def alone(monkeypatch):
    """Two processes of which the other holds the same rows: every sum is doubled."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor.mul_(2))


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 3)])
def test_a_synchronised_batch_norm_is_a_batch_norm(alone, shape, momentum):
    """In training over the rows of all processes, by the running statistics otherwise; half precision stays half."""
    torch.manual_seed(0)
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    plain = kind(4, momentum=momentum).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    synchronised = distributed.convert_batch_norm(nn.Sequential(copy.deepcopy(plain)))
    for _ in range(3):
        x = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(synchronised(x), plain(torch.cat([x, x]))[: len(x)])
    torch.testing.assert_close([*synchronised.state_dict().values()], [*plain.state_dict().values()])
    torch.testing.assert_close(synchronised.eval()(x), plain.eval()(x))
    half = synchronised.float().train()(x.to(torch.bfloat16))
    torch.testing.assert_close(half, plain.float().train()(x.to(torch.bfloat16)), rtol=0.05, atol=0.05)
    assert half.dtype == torch.bfloat16


def test_conversion_keeps_activation_statistics_and_names(alone):
    """Bug: torch's own conversion, which drops the activation inside timm's BatchNormAct2d."""
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv3_small_050", num_classes=0).train(False)
    images = torch.randn(2, 3, 32, 32)
    expected, before = network(images), {path: t.clone() for path, t in network.state_dict().items()}
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    converted = distributed.convert_batch_norm(network)
    assert sum(isinstance(m, distributed.SynchronizedBatchNorm) for m in converted.modules()) == norms > 30
    assert not any(isinstance(module, nn.BatchNorm2d) for module in converted.modules())
    assert not any(module.training for module in converted.modules())
    torch.testing.assert_close(converted(images), expected)
    torch.testing.assert_close(dict(converted.state_dict()), before, rtol=0, atol=0)


def test_conversion_for_cuda_is_timms(alone):
    network = timm.create_model("mobilenetv3_small_050", num_classes=0)
    names = list(network.state_dict())
    converted = distributed.convert_batch_norm(network, torch.device("cuda"))
    assert any(isinstance(module, timm.layers.SyncBatchNormAct) for module in converted.modules())
    assert list(converted.state_dict()) == names


def test_a_mix_across_processes_is_refused():
    """Bug: a permutation that reaches into rows of another process, answered by whatever row has that number here."""
    model = small_model("mixed_barlow_twins")
    views, mix = torch.randn(6, 2, 3, 32, 32), F.draw_mix(12, 12, torch.Generator().manual_seed(0))
    assert mix.permutation[:6].max() >= 6
    with pytest.raises(IndexError):
        model(views, mix)
