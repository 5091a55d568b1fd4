"""Barlow Twins (Zbontar et al., 2021, https://huggingface.co/papers/2103.03230).

Two views of an image should agree in every embedding dimension, and no two dimensions should say the same thing:
the cross-correlation of the two views' embeddings is drawn to the identity matrix.
"""

from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from hf_ssl import functional as F
from hf_ssl.configuration import SSLConfig, refuse_unknown, setting
from hf_ssl.errors import UsageError
from hf_ssl.modeling import SSLModel


@strict
class BarlowTwinsConfig(SSLConfig):
    """Defaults for small images on one device; the paper's 8192-8192-8192 projector is a recipe."""

    model_type = "barlow_twins"

    projector_dims: list[int] | tuple[int, ...] = (512, 1024)
    redundancy_weight: float | int = setting(
        0.0051, "cost of a squared correlation between two different dimensions (lambda of eq. 1)"
    )

    normalize_embeddings: bool = setting(False, "scale each embedding to length 1 before it is standardised")
    standardization: str = setting(
        "biased", "deviation over the batch: biased = divide by B with 1e-5 in the root; unbiased = by B - 1"
    )

    mix_target: str = setting(
        "ab",
        "what correlations of mixed with second views are drawn to: ab = first with second; bb = second with itself",
    )

    def validate_architecture(self) -> None:
        """Refuse a negative weight and unknown choices beside what no method can build."""
        super().validate_architecture()
        refuse_unknown("standardization", self.standardization, ("biased", "unbiased"))
        refuse_unknown("mix_target", self.mix_target, ("ab", "bb"))
        if not self.redundancy_weight >= 0:
            raise UsageError(f"redundancy_weight must not be negative, but is {self.redundancy_weight}.")


class BarlowTwinsModel(SSLModel):
    """Scores dimensions against dimensions: N = D anchors with M = D - 1 negatives each."""

    config_class = BarlowTwinsConfig
    config: BarlowTwinsConfig

    def items(self, z: Tensor) -> Tensor:
        """Standardised dimensions as rows (..., D, B), so that inner products are correlations."""
        z = F.normalize(z) if self.config.normalize_embeddings else z
        return F.standardize(z, self.config.standardization).mT / z.shape[-2] ** 0.5

    def arrange(self, items_a: Tensor, items_b: Tensor, bank: Tensor | None = None) -> F.PairScores:
        """Part the cross-correlation (..., D, D): a dimension should match itself in the other view, nothing else."""
        return F.split_diagonal(F.inner_products(items_a, items_b))

    def objective(self, scores: F.PairScores, temperature: F.PairScores | float | None) -> Tensor:
        """Eq. 1; under learned temperatures AMCL's form of it, the published one or ours with a floor."""
        config = self.config
        if not isinstance(temperature, F.PairScores):
            return F.redundancy_reduction(scores, temperature, config.redundancy_weight)
        if config.amcl_objective == "soft":
            return F.soft_redundancy_reduction(scores, temperature, config.redundancy_weight, config.beta)
        width = config.projector_dims[-1]
        return F.hard_redundancy_reduction(scores, temperature, config.redundancy_weight, config.beta, width)

    def learned_items(self, z: Tensor, phi: nn.Module) -> Tensor:
        """Dimensions of what `phi` makes of the embeddings, so that it does not depend on the batch size."""
        return self.items(phi(z))

    def fast(self, z_a: Tensor, z_b: Tensor) -> Tensor | None:
        """Eq. 1 without a D x D matrix where B is the smaller; learned temperatures need the matrix."""
        config = self.config
        if not self.temperature.is_constant:
            return None
        return F.barlow_twins(z_a, z_b, config.redundancy_weight, config.standardization, config.normalize_embeddings)

    def mix(self, z_mix: Tensor, anchors: Tensor, targets: Tensor, alpha: Tensor, permutation: Tensor) -> Tensor:
        """`redundancy_weight` times the squared distance of the mix's correlations from the mixed correlations."""
        config = self.config
        consistency = F.mix_consistency(
            z_mix,
            anchors[0],
            targets[0],
            alpha,
            permutation,
            config.mix_target,
            config.standardization,
            config.normalize_embeddings,
        )
        return config.redundancy_weight * consistency
