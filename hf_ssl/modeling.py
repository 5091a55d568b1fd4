"""One forward pass for every method: two views in, one loss out.

Letters: b images on this process, B in the global batch, F the representation's width, D an embedding's, C heads,
V directions (which side predicts which; never concatenated along the batch, which would change the negatives).

    views (b, 2, c, H, W) -> sides (V, C, b, D) -> gather (V, C, B, D) -> items -> arrange -> PairScores -> objective

A method fills in `items`, `arrange` and `objective`, and overrides what else is its own. A forward pass only computes;
what follows an optimizer step (a momentum encoder, a queue) moves in `after_step`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_ssl import distributed
from hf_ssl import functional as F
from hf_ssl.backbone import create_backbone, width
from hf_ssl.configuration import SSLConfig
from hf_ssl.errors import HfSslError, UsageError, listing
from hf_ssl.functional.precision import lift, without_autocast
from hf_ssl.heads import AdaptiveTemperature, ConstantTemperature, Temperature, build_projector
from hf_ssl.outputs import SSLOutput


class SSLModel(PreTrainedModel):
    """A timm backbone with projectors and an objective."""

    config_class = SSLConfig
    default_weight_decay = 1e-6
    base_model_prefix = "backbone"
    main_input_name = "views"

    config: SSLConfig

    def __init__(self, config: SSLConfig) -> None:
        super().__init__(config)
        config.validate_architecture()  # from_pretrained sets its options one by one, after the first look
        on_meta = torch.empty(0).is_meta  # from_pretrained builds there: it brings the weights itself
        self.backbone = create_backbone(config, pretrained=config.pretrained_backbone and not on_meta)
        self.projector = build_projector(config, width(self.backbone))
        self.temperature = self.build_temperature()
        self.build()
        self.freeze()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave what timm and torch initialised; transformers would draw it anew. Recompute what is never saved."""
        recompute = getattr(module, "init_non_persistent_buffers", None)
        if recompute is not None:
            recompute()

    def items(self, z: Tensor) -> Tensor:
        """Turn embeddings (..., B, D) into the rows that are compared with each other, (..., N, K)."""
        raise NotImplementedError

    def arrange(self, items_a: Tensor, items_b: Tensor, bank: Tensor | None = None) -> F.PairScores:
        """Part the plain inner products of rows into what should match, (..., N), and what should not, (..., N, M)."""
        raise NotImplementedError

    def objective(self, scores: F.PairScores, temperature: Any) -> Tensor:
        """Define the objective over scores: (V, C, N) and (V, C, N, M) -> (V, C)."""
        raise NotImplementedError

    def build(self) -> None:
        """Make further parts of the method, such as a predictor, a momentum encoder or a queue."""

    @property
    def constant_rate_parts(self) -> Sequence[nn.Module]:
        """Parts whose learning rate stays at its peak while the others' follows the schedule."""
        return ()

    @property
    def constant_temperature(self) -> float | None:
        """What scores are divided by where no temperature is learned; None where a method divides by nothing."""
        return None

    def freeze(self) -> None:
        """Take parts that are never trained out of the optimizer's reach; loading makes everything trainable."""

    def restart_target(self) -> None:
        """Make the branch without gradients, if there is one, start from the online one."""

    def build_temperature(self) -> Temperature:
        """Make what scores are divided by: one number, or numbers learned for every pair."""
        config = self.config
        if config.temperature_range is None:
            return ConstantTemperature(self.constant_temperature)
        low, high = config.temperature_range
        width = config.projector_dims[-1]
        return AdaptiveTemperature(width, config.temperature_width, low, high, detach=config.detach_temperature)

    def learned_items(self, z: Tensor, phi: nn.Module) -> Tensor:
        """Rows like `items`, from which a temperature is learned through `phi`."""
        return cast(Tensor, phi(self.items(z)))

    @property
    def bank(self) -> Tensor | None:
        """Rows that every anchor is compared with beside the batch, such as MoCo's queue."""
        return None

    def sides(self, view_a: Tensor, view_b: Tensor) -> tuple[Tensor, Tensor]:
        """Embed two views (b, c, H, W): -> anchors and targets, (V, C, b, D) each."""
        return self.embed(view_a)[None], self.embed(view_b)[None]

    def anchor(self, images: Tensor) -> Tensor:
        """Embed images (b, c, H, W) as anchors are embedded: -> (C, b, D)."""
        return self.embed(images)

    def fast(self, z_a: Tensor, z_b: Tensor) -> Tensor | None:
        """Return the objective in a cheaper form that is exactly equal, (V, C), or None where there is none."""
        return None

    def mix(self, z_mix: Tensor, anchors: Tensor, targets: Tensor, alpha: Tensor, permutation: Tensor) -> Tensor:
        """Cost of blends whose embeddings (C, B, D) do not relate to others as the blends of their sources': -> (C,).

        anchors and targets are those of the unblended views, (V, C, B, D).
        """
        raise NotImplementedError(f"{type(self).__name__} has no mix term")

    def check_data(self, batch_size: int, rows: int | None) -> None:
        """Say or refuse what will not work with a global batch and a number of images (None: unknown)."""

    def after_step(self, output: SSLOutput, progress: float) -> None:
        """Follow an optimizer step; `progress` is the share of the run that is done, in (0, 1]."""

    def encode(self, images: Tensor) -> Tensor:
        """Represent images (b, c, H, W), normalised as in training: (b, F), at least float32."""
        return cast(Tensor, lift(self.backbone(images)))

    def embed(self, images: Tensor) -> Tensor:
        """Project the representations of images (b, c, H, W): (C, b, D), at least float32."""
        return cast(Tensor, lift(self.projector(self.backbone(images))))

    def forward(self, views: Tensor, mix: F.Mix | None = None) -> SSLOutput:
        """Score two views of each image, (b, 2, c, H, W) with the batch first because Accelerate slices that axis.

        `mix` blends view a with rows of view b, for all B rows; a method that mixes draws it if none is given, and
        only in training.

        Raises:
            UsageError: for a global batch of one in training.

        """
        rows, world = views.shape[0], distributed.world_size()
        if self.training and rows * world < 2:
            raise UsageError("A batch of one image cannot be trained on: there is nothing to compare it with.")
        view_a, view_b = views.unbind(dim=1)
        anchors, targets = (distributed.gather(lift(side)) for side in self.sides(view_a, view_b))
        terms = {"objective": self.compare(anchors, targets)}
        if self.training and self.config.mix_weight:
            mix = self._draw(rows) if mix is None else mix
            mix = F.Mix(*(value.to(views.device, non_blocking=True) for value in mix))
            own = mix.permutation.narrow(0, distributed.rank() * rows, rows) - distributed.rank() * rows
            z_mix = distributed.gather(lift(self.anchor(F.mix_views(view_a, view_b, mix.alpha, own))))
            with without_autocast(z_mix):
                residual = self.mix(z_mix, anchors, targets, mix.alpha, mix.permutation)
            terms["mix"] = residual * (self.config.mix_weight * mix.scale)
        return SSLOutput(
            loss=torch.stack(list(terms.values())).sum(),
            terms={name: term.detach().sum() for name, term in terms.items()},
            embeddings=(anchors.detach(), targets.detach()),
        )

    def compare(self, anchors: Tensor, targets: Tensor) -> Tensor:
        """Cost of embeddings (V, C, B, D) for each head: by the exact cheap form if there is one, else as defined."""
        with without_autocast(anchors):
            cheap = self.fast(anchors, targets)
            if cheap is not None:
                return cheap.mean(dim=0)
            scores = self.arrange(self.items(anchors), self.items(targets), self.bank)
            return self.objective(scores, self.temperature(self, anchors, targets)).mean(dim=0)

    def _draw(self, rows: int) -> F.Mix:
        """Draw a mix from torch's own generator, the same on every process."""
        drawn = F.draw_mix(rows * distributed.world_size(), rows, torch.default_generator)
        return F.Mix(*map(distributed.agree, drawn))

    @classmethod
    def from_pretrained(cls, name: str | Path, *, output_loading_info: bool = False, **options: Any) -> Any:
        """Load a saved model, in eval mode.

        Raises:
            UsageError: for options that cannot be built.
            HfSslError: if the file lacks weights of this model, has others or other sizes; `transformers` would warn.

        """
        options = {**options, "ignore_mismatched_sizes": True}  # refused below, by name
        model, info = super().from_pretrained(name, output_loading_info=True, **options)
        for reason in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if keys := sorted(key if isinstance(key, str) else key[0] for key in info[reason]):
                raise HfSslError(f"{name} does not fit {cls.__name__}: {reason} {listing(keys, 5)}.")
        model.freeze()
        return (model, info) if output_loading_info else model
