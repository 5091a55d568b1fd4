"""The other branch: a slow copy of the network, and the keys that it made in earlier steps."""

import copy
from typing import cast

import torch
from torch import Tensor, nn


class MomentumEncoder(nn.Module):
    """A copy of modules that follows them slowly and is never trained.

    `groups` parts the batch for the copy's batch statistics, so that a query cannot recognise its key by them
    (shuffled BatchNorm on one process). A group is every so-many-th row: with statistics shared between processes the
    groups of W are those of one where `groups` divides their rows.
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.projector = copy.deepcopy(backbone), copy.deepcopy(projector)

    @torch.no_grad()
    def forward(self, images: Tensor, groups: int = 1) -> Tensor:
        """Embed images (b, c, H, W) without gradients: (C, b, D)."""
        if not self.training or groups == 1:
            return cast(Tensor, self.projector(self.backbone(images)))
        rows = torch.arange(len(images), device=images.device)
        z = torch.cat([self.projector(self.backbone(images[first::groups])) for first in range(groups)], dim=-2)
        return z[..., torch.cat([rows[first::groups] for first in range(groups)]).argsort(), :]

    @torch.no_grad()
    def follow(self, backbone: nn.Module, projector: nn.Module, momentum: float) -> None:
        """Move to `momentum` times itself plus the rest of the trained modules; batch statistics stay its own."""
        for slow, fast in ((self.backbone, backbone), (self.projector, projector)):
            own: list[Tensor] = list(slow.parameters())
            torch._foreach_lerp_(own, [parameter.to(own[0].dtype) for parameter in fast.parameters()], 1 - momentum)

    def restart(self, backbone: nn.Module, projector: nn.Module) -> None:
        """Become equal to the trained modules."""
        self.backbone.load_state_dict(backbone.state_dict())
        self.projector.load_state_dict(projector.state_dict())


class KeyQueue(nn.Module):
    """The last K keys of each head, first in first out: unit columns (C, D, K)."""

    def __init__(self, heads: int, width: int, length: int) -> None:
        super().__init__()
        self.register_buffer("keys", nn.functional.normalize(torch.randn(heads, width, length), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.keys: Tensor
        self.position: Tensor

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Put unit rows (C, B, D) in the place of the oldest.

        Raises:
            ValueError: if B is more than K: keys of one step would overwrite each other.

        """
        if keys.shape[-2] > self.keys.shape[-1]:
            raise ValueError(f"{keys.shape[-2]} keys do not fit a queue of {self.keys.shape[-1]}.")
        places = (self.position + torch.arange(keys.shape[-2], device=keys.device)) % self.keys.shape[-1]
        self.keys.index_copy_(-1, places, keys.mT.to(self.keys.dtype))
        self.position.add_(keys.shape[-2]).remainder_(self.keys.shape[-1])
