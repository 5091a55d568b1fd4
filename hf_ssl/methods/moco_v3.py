"""MoCo v3 (Chen et al., 2021, https://huggingface.co/papers/2104.02057).

MoCo without a queue: the other keys of the batch are the negatives, a predictor follows the projector, each view is
query and key in turn, and the slow copy slows down over the run.
"""

from typing import Literal

from huggingface_hub.dataclasses import strict

from hf_ssl.methods.moco import MoCoConfig, MoCoModel


@strict
class MoCoV3Config(MoCoConfig):
    """Numbers for small images."""

    model_type = "moco_v3"

    temperature: float | int | None = 0.2
    queue_length: int = 0
    predictor_dims: list[int] | tuple[int, ...] | None = (512, 128)
    projector_last_norm: bool = True
    momentum_schedule: Literal["constant", "cosine"] = "cosine"


class MoCoV3Model(MoCoModel):
    """MoCo under version 3's settings."""

    config_class = MoCoV3Config
    default_weight_decay = 1e-6
    config: MoCoV3Config
