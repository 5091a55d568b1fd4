"""Adaptive multi-head contrastive learning (Wang et al., 2023, https://huggingface.co/papers/2310.05615).

Several projectors side by side, and for each pair of items a temperature of its own, learned by one small perceptron.
Both are settings of any method; here they are on, over SimCLR, MoCo and Barlow Twins.
"""

from huggingface_hub.dataclasses import strict

from hf_ssl.methods.barlow_twins import BarlowTwinsConfig, BarlowTwinsModel
from hf_ssl.methods.moco import MoCoConfig, MoCoModel
from hf_ssl.methods.simclr import SimCLRConfig, SimCLRModel

HEADS, RANGE = 3, (0.05, 1.0)


@strict
class AMCLSimCLRConfig(SimCLRConfig):
    """SimCLR with three heads and learned temperatures."""

    model_type = "amcl_simclr"

    num_heads: int = HEADS
    temperature_range: list[float | int] | tuple[float | int, ...] | None = RANGE


class AMCLSimCLRModel(SimCLRModel):
    """SimCLR under AMCL's settings."""

    config_class = AMCLSimCLRConfig
    config: AMCLSimCLRConfig


@strict
class AMCLMoCoConfig(MoCoConfig):
    """MoCo with three heads and learned temperatures."""

    model_type = "amcl_moco"

    num_heads: int = HEADS
    temperature_range: list[float | int] | tuple[float | int, ...] | None = RANGE


class AMCLMoCoModel(MoCoModel):
    """MoCo under AMCL's settings."""

    config_class = AMCLMoCoConfig
    config: AMCLMoCoConfig


@strict
class AMCLBarlowTwinsConfig(BarlowTwinsConfig):
    """Barlow Twins with three heads and a learned temperature for each pair of dimensions, D x D of them a head."""

    model_type = "amcl_barlow_twins"

    projector_dims: list[int] | tuple[int, ...] = (512, 512)
    num_heads: int = HEADS
    temperature_range: list[float | int] | tuple[float | int, ...] | None = RANGE


class AMCLBarlowTwinsModel(BarlowTwinsModel):
    """Barlow Twins under AMCL's settings."""

    config_class = AMCLBarlowTwinsConfig
    config: AMCLBarlowTwinsConfig
