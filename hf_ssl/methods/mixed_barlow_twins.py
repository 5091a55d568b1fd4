"""Mixed Barlow Twins (Bandara et al., 2023, https://huggingface.co/papers/2312.02151).

A blend of two images should correlate with each view as the same blend of their own embeddings does; this keeps
Barlow Twins from over-fitting. It is Barlow Twins with the mix term on, and the numbers of the paper's CIFAR-10 run.
"""

from huggingface_hub.dataclasses import strict

from hf_ssl.methods.barlow_twins import BarlowTwinsConfig, BarlowTwinsModel


@strict
class MixedBarlowTwinsConfig(BarlowTwinsConfig):
    """Defaults of the paper's small-image runs."""

    model_type = "mixed_barlow_twins"

    redundancy_weight: float | int = 1 / 128
    mix_weight: float | int = 4
    normalize_embeddings: bool = True
    standardization: str = "unbiased"


class MixedBarlowTwinsModel(BarlowTwinsModel):
    """Barlow Twins under other defaults."""

    config_class = MixedBarlowTwinsConfig
    config: MixedBarlowTwinsConfig
