"""What the methods share that compare images with images: cosine similarity, contrast, and its mix."""

from collections.abc import Sequence
from typing import Any

from huggingface_hub.dataclasses import strict
from torch import Tensor

from hf_ssl import functional as F
from hf_ssl.configuration import SSLConfig, setting
from hf_ssl.errors import UsageError
from hf_ssl.modeling import SSLModel


@strict
class ImageConfig(SSLConfig):
    """Settings of methods that score images against images."""

    contrasts = True

    temperature: float | int | None = setting(
        None, "number that similarities are divided by; unused where temperatures are learned"
    )

    def validate_architecture(self) -> None:
        """Refuse a temperature that is not positive, and none where one is needed."""
        super().validate_architecture()
        if self.contrasts and self.temperature is None and self.temperature_range is None:
            raise UsageError("temperature needs a number where none is learned.")
        if self.temperature is not None and not self.temperature > 0:
            raise UsageError(f"temperature must be positive, but is {self.temperature}.")


def refuse_predictor(predictor_dims: Sequence[int], projector_dims: Sequence[int]) -> None:
    """Raise UsageError for a predictor that does not end as wide as the projector, or has a layer of no width."""
    if not predictor_dims or min(predictor_dims) < 1 or predictor_dims[-1] != projector_dims[-1]:
        raise UsageError(
            f"predictor_dims {list(predictor_dims)} must be positive and end in {projector_dims[-1]}, the "
            "projector's width."
        )


class ImageModel(SSLModel):
    """Anchors are images; an anchor's match is another view of it."""

    config: ImageConfig

    @property
    def constant_temperature(self) -> float | None:
        """The configured temperature."""
        return self.config.temperature

    def items(self, z: Tensor) -> Tensor:
        """Embeddings at unit length, so that inner products are cosine similarities."""
        return F.normalize(z)

    def objective(self, scores: F.PairScores, temperature: Any) -> Tensor:
        """InfoNCE; under learned temperatures AMCL's form of it, bounded or as published."""
        config = self.config
        if not isinstance(temperature, F.PairScores):
            return F.info_nce(scores, temperature)
        width = config.projector_dims[-1]
        if config.amcl_objective == "soft":
            return F.soft_contrast(scores, temperature, config.beta, width)
        return F.hard_contrast(scores, temperature, config.beta, width, config.amcl_top_k)

    def mix(self, z_mix: Tensor, anchors: Tensor, targets: Tensor, alpha: Tensor, permutation: Tensor) -> Tensor:
        """Mean squared distance of the mix's similarities to the references from the mixed similarities."""
        both_ways = len(anchors) > 1  # then view b was embedded as an anchor too
        second = anchors[1] if both_ways else targets[0]
        references = self.mix_references(anchors[0], targets[0])
        return F.mix_similarity(z_mix, anchors[0], second, alpha, permutation, references)

    def mix_references(self, anchors: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """What a mixed image's similarities are taken to: the targets, which are constants where sides differ."""
        return (targets.detach(),)
