"""Several processes that compute as one; the only room of the model that knows there are others.

The mathematics sees the global batch: embeddings are gathered with their gradient, and BatchNorm takes its statistics
over all processes. Each process then computes the same loss L, the gradients below are those of the sum of all W
losses, and DistributedDataParallel divides by W: what remains is exactly the gradient of L on one process.
"""

from functools import cache
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def world_size() -> int:
    """Return the number of processes, 1 when nothing was launched."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def agree(tensor: Tensor) -> Tensor:
    """Return process 0's value of `tensor`, which has one shape and type everywhere."""
    if world_size() == 1:
        return tensor
    shared = _reachable(tensor.clone())
    dist.broadcast(shared, src=0)
    return shared.to(tensor.device)


def any_process(flag: bool) -> bool:
    """Return whether `flag` is true on at least one process; every process has to ask."""
    if world_size() == 1:
        return flag
    shared = torch.tensor(int(flag))
    dist.all_reduce(shared, op=dist.ReduceOp.MAX, group=_host_group())
    return bool(shared.item())


def gather(z: Tensor) -> Tensor:
    """Put every process's rows together, in order of rank, with exact gradients: (..., b, D) -> (..., B, D).

    The library's own differentiable all_gather permutes gradients on gloo when they arrive transposed.
    """
    if world_size() == 1:
        return z
    return torch.cat(cast(tuple[Tensor, ...], _Gather.apply(z.contiguous())), dim=-2)


def convert_batch_norm(model: nn.Module, device: torch.device | None = None) -> nn.Module:
    """Make every BatchNorm of `model` use the statistics of the global batch; parameters and their names stay.

    Call it before DistributedDataParallel wraps the model. `device` is where training will run, by default where the
    model is. With one process nothing changes.
    """
    if world_size() == 1:
        return model
    if (device or next(model.parameters()).device).type == "cuda":
        from timm.layers import convert_sync_batchnorm  # torch's own conversion drops the activation of BatchNormAct2d

        return cast(nn.Module, convert_sync_batchnorm(model))
    return _replace(model)


@cache
def _host_group() -> Any:
    """A group whose messages stay on the hosts, so that asking does not wait for what the GPUs have to do."""
    return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else dist.group.WORLD


def _reachable(tensor: Tensor) -> Tensor:
    """Move `tensor` to where the processes can exchange it: NCCL knows no CPU tensors."""
    return tensor.cuda() if dist.get_backend() == "nccl" else tensor


class _Gather(torch.autograd.Function):
    """Every process's tensor; the gradient of each is the sum over the processes that used it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, ...]:
        gathered = [torch.empty_like(z) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, z)
        return tuple(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = torch.stack([gradient.contiguous() for gradient in gradients])
        dist.all_reduce(total)
        return total[dist.get_rank()]


class _Sum(torch.autograd.Function):
    """The sum over processes; each process's sum depends on every process's summand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class SynchronizedBatchNorm(_BatchNorm):
    """BatchNorm over the global batch where torch has none (on the CPU); every process holds equally many rows.

    It takes over parameters, running statistics and, from timm's BatchNormAct2d, activation and dropout.
    """

    def __init__(self, source: _BatchNorm) -> None:
        super().__init__(source.num_features, source.eps, source.momentum, affine=False)
        self._parameters, self._buffers, self._modules = source._parameters, source._buffers, source._modules
        self.affine, self.track_running_stats = source.affine, source.track_running_stats
        self.training = source.training

    def _check_input_dim(self, input: Tensor) -> None:
        """Any shape (b, C, ...) will do."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (b, C, ...) over all processes' rows in training, by the running statistics otherwise."""
        output = self._normalize(input) if self.training else super().forward(input)
        for module in self._modules.values():  # timm's drop, then act
            output = cast(nn.Module, module)(output)
        return output

    def _normalize(self, input: Tensor) -> Tensor:
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        axes, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        count = x.numel() // x.shape[1] * world_size()
        mean = cast(Tensor, _Sum.apply(x.sum(axes))) / count
        centred = x - mean.view(shape)
        variance = cast(Tensor, _Sum.apply(centred.square().sum(axes))) / count
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        output = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        return output.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype), weight)


def _replace(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm):
        return SynchronizedBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, _replace(child))
    return module
