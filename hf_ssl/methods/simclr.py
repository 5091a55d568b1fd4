"""SimCLR (Chen et al., 2020, https://huggingface.co/papers/2002.05709).

A view should be told from all other images of the batch by its likeness to the other view of its own image. The two
views pass the network one after the other, each with its own batch statistics; the published code concatenates them.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor

from hf_ssl import functional as F
from hf_ssl.heads import AdaptiveTemperature
from hf_ssl.methods.images import ImageConfig, ImageModel


@strict
class SimCLRConfig(ImageConfig):
    """Defaults for small images; the temperature 0.5 of the CIFAR literature is a recipe."""

    model_type = "simclr"

    projector_dims: list[int] | tuple[int, ...] = (512, 128)
    temperature: float | int | None = 0.1


class SimCLRModel(ImageModel):
    """N = 2B anchors, both views, with M = 2B - 2 negatives each, both views of all other images."""

    config_class = SimCLRConfig
    default_weight_decay = 1e-4
    config: SimCLRConfig

    def arrange(self, items_a: Tensor, items_b: Tensor, bank: Tensor | None = None) -> F.PairScores:
        """Part the similarities of all views with all views."""
        items = torch.cat([items_a, items_b], dim=-2)
        return F.split_views(F.inner_products(items, items))

    def mix_references(self, anchors: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Both views, since neither is the target."""
        return anchors, targets

    def fast(self, z_a: Tensor, z_b: Tensor) -> Tensor | None:
        """NT-Xent, or AMCL's bounded form of it, a block of anchors at a time."""
        config, temperature = self.config, self.temperature
        if not isinstance(temperature, AdaptiveTemperature):
            return None if config.temperature is None else F.nt_xent(z_a, z_b, config.temperature)
        if config.amcl_objective == "hard":
            return None
        items = self.items(torch.cat([z_a, z_b], dim=-2))
        learned = temperature.phi(items.detach() if temperature.detach else items)
        width = config.projector_dims[-1]
        return F.soft_nt_xent(items, learned, temperature.low, temperature.high, config.beta, width)
