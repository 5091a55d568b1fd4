"""SimSiam (Chen and He, 2021, https://huggingface.co/papers/2011.10566).

A view's embedding should be predictable from the other's. Nothing is pushed apart; that the predicted side passes no
gradient keeps the embeddings from collapsing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from hf_ssl import functional as F
from hf_ssl.configuration import setting
from hf_ssl.errors import UsageError
from hf_ssl.heads import Predictor
from hf_ssl.methods.images import ImageConfig, ImageModel, refuse_predictor


@strict
class SimSiamConfig(ImageConfig):
    """Numbers of the paper."""

    model_type = "simsiam"
    contrasts = False

    projector_dims: list[int] | tuple[int, ...] = (2048, 2048, 2048)
    projector_last_norm: bool = True
    predictor_dims: list[int] | tuple[int, ...] = setting((512, 2048), "output widths of the predictor's layers")

    constant_predictor_rate: bool = setting(True, "keep the predictor's learning rate at its peak")

    def validate_architecture(self) -> None:
        """Refuse a predictor that does not fit, and a temperature, which nothing is divided by."""
        super().validate_architecture()
        refuse_predictor(self.predictor_dims, self.projector_dims)
        if self.temperature is not None:
            raise UsageError("SimSiam divides by no constant temperature: leave --temperature out.")


class SimSiamModel(ImageModel):
    """V = 2 directions of N = B anchors without negatives."""

    config_class = SimSiamConfig
    config: SimSiamConfig

    def build(self) -> None:
        """Make the predictor."""
        config = self.config
        self.predictor = Predictor(
            config.projector_dims[-1],
            config.predictor_dims,
            config.num_heads,
            norm=config.projector_norm,
            bias=config.projector_bias,
        )

    @property
    def constant_rate_parts(self) -> Sequence[nn.Module]:
        """The predictor, unless configured otherwise: the paper trains best so."""
        return (self.predictor,) if self.config.constant_predictor_rate else ()

    def anchor(self, images: Tensor) -> Tensor:
        """Predict from the embedding."""
        return self.predictor(self.embed(images))

    def sides(self, view_a: Tensor, view_b: Tensor) -> tuple[Tensor, Tensor]:
        """Each view's prediction against the other's embedding, which passes no gradient."""
        z_a, z_b = self.embed(view_a), self.embed(view_b)
        predictions = torch.stack([self.predictor(z_a), self.predictor(z_b)])
        return predictions, torch.stack([z_b, z_a]).detach()

    def arrange(self, items_a: Tensor, items_b: Tensor, bank: Tensor | None = None) -> F.PairScores:
        """Cosines of predictions with what they predict; no negatives."""
        positive = (items_a * items_b).sum(dim=-1)
        return F.PairScores(positive, positive.new_empty(*positive.shape, 0))

    def objective(self, scores: F.PairScores, temperature: Any) -> Tensor:
        """Minus the mean cosine (eq. 4); under learned temperatures AMCL's form of it, bounded or as published."""
        config = self.config
        if not isinstance(temperature, F.PairScores):
            return -scores.positive.mean(dim=-1)
        if config.amcl_objective == "soft":
            return F.soft_agreement(scores.positive, temperature.positive, config.beta)
        width = config.projector_dims[-1]
        return F.hard_agreement(scores.positive, temperature.positive, config.beta, width)
