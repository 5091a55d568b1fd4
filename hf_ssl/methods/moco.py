"""MoCo (He et al., 2020, https://huggingface.co/papers/1911.05722).

A query should be told from many keys by its likeness to the key of the same image. Keys come from a slow copy of the
network. With a queue the negatives are the keys of earlier steps (version 2,
https://huggingface.co/papers/2003.04297); without they are those of the batch, and each view is query and key in turn
(version 3).
"""

import logging
from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor

from hf_ssl import distributed
from hf_ssl import functional as F
from hf_ssl.configuration import setting
from hf_ssl.errors import UsageError
from hf_ssl.heads import Predictor
from hf_ssl.methods.images import ImageConfig, ImageModel, refuse_predictor
from hf_ssl.momentum import KeyQueue, MomentumEncoder
from hf_ssl.outputs import SSLOutput

logger = logging.getLogger(__name__)

KEY_GROUPS, KEY_GROUPS_ROWS = 8, 64  # groups of keys on one process, from this batch size on


@strict
class MoCoConfig(ImageConfig):
    """Version 2 with numbers for small images; the paper's 65,536 keys are a recipe."""

    model_type = "moco"

    projector_dims: list[int] | tuple[int, ...] = (512, 128)
    temperature: float | int | None = 0.1
    queue_length: int = setting(4096, "keys kept from earlier steps; 0 = the batch's own keys, in both directions")
    momentum: float | int = setting(0.99, "share of itself that the slow copy keeps at every step")
    momentum_schedule: Literal["constant", "cosine"] = setting("constant", "constant, or cosine: it rises to 1")
    predictor_dims: list[int] | tuple[int, ...] | None = setting(
        None, "output widths of the predictor's layers; absent = no predictor"
    )
    key_batch_norm_groups: int | None = setting(
        None,
        "groups of a process's keys with batch statistics of their own; absent = 8 on one process from 64 images on,"
        " with a queue, else 1",
    )
    freeze_patch_projection: bool = setting(False, "leave a ViT's patch projection as it is initialised")

    def axes(self) -> list[str]:
        """Of MoCo also the queue, and the groups of keys where there are several."""
        words = [*super().axes(), f"queue of {self.queue_length} keys" if self.queue_length else "no queue"]
        several = (self.key_batch_norm_groups or 1) > 1
        return [*words, f"keys in {self.key_batch_norm_groups} groups"] if several else words

    def key_groups(self, rows: int, processes: int) -> int:
        """Groups of a process's `rows` keys with batch statistics of their own, as configured or by default."""
        if self.key_batch_norm_groups is not None:
            return self.key_batch_norm_groups
        return KEY_GROUPS if processes == 1 and rows >= KEY_GROUPS_ROWS and self.queue_length else 1

    def validate_architecture(self) -> None:
        """Refuse numbers out of range, and the combination that has no definition."""
        super().validate_architecture()
        if self.queue_length < 0:
            raise UsageError(f"queue_length must not be negative, but is {self.queue_length}.")
        if self.key_batch_norm_groups is not None and self.key_batch_norm_groups < 1:
            raise UsageError(f"key_batch_norm_groups must be at least 1, not {self.key_batch_norm_groups}.")
        if self.predictor_dims is not None:
            refuse_predictor(self.predictor_dims, self.projector_dims)
        if not 0 <= self.momentum <= 1:
            raise UsageError(f"momentum must be from 0 to 1, but is {self.momentum}.")
        if self.amcl_objective == "hard" and self.temperature_range and self.num_heads > 1 and not self.queue_length:
            raise UsageError("The hard objective with several heads needs a queue: set queue_length, or take soft.")


class MoCoModel(ImageModel):
    """With a queue N = B anchors and M = K negatives; without V = 2 directions of N = B and M = B - 1."""

    config_class = MoCoConfig
    default_weight_decay = 1e-4
    config: MoCoConfig

    def build(self) -> None:
        """Make the slow copy and, as configured, the queue and the predictor."""
        config = self.config
        self.momentum_encoder = MomentumEncoder(self.backbone, self.projector)
        width = config.projector_dims[-1]
        if config.queue_length:
            self.queue = KeyQueue(config.num_heads, width, config.queue_length)
        if config.predictor_dims:
            self.predictor = Predictor(
                width,
                config.predictor_dims,
                config.num_heads,
                norm=config.projector_norm,
                bias=config.projector_bias,
            )

    def freeze(self) -> None:
        """Leave the slow copy and, if asked, the patch projection out of training.

        Raises:
            UsageError: if the backbone has no patch projection.

        """
        self.momentum_encoder.requires_grad_(False)
        if self.config.freeze_patch_projection:
            if not hasattr(self.backbone, "patch_embed"):
                raise UsageError(f"--freeze_patch_projection is for ViTs; {self.config.backbone} projects no patches.")
            self.backbone.patch_embed.requires_grad_(False)

    def restart_target(self) -> None:
        """Copy the online network anew."""
        self.momentum_encoder.restart(self.backbone, self.projector)

    @property
    def bank(self) -> Tensor | None:
        """Keys of earlier steps as rows (1, C, K, D)."""
        return self.queue.keys.mT[None] if self.config.queue_length else None

    def anchor(self, images: Tensor) -> Tensor:
        """Embed queries: the predictor, where there is one, follows the projector."""
        z = self.embed(images)
        return self.predictor(z) if self.config.predictor_dims else z

    def sides(self, view_a: Tensor, view_b: Tensor) -> tuple[Tensor, Tensor]:
        """View a's queries against view b's keys and, without a queue, the other way round."""
        if self.config.queue_length:
            return self.anchor(view_a)[None], self.key(view_b)[None]
        queries = torch.stack([self.anchor(view_a), self.anchor(view_b)])
        return queries, torch.stack([self.key(view_b), self.key(view_a)])

    def key(self, images: Tensor) -> Tensor:
        """Embed images (b, c, H, W) by the slow copy: (C, b, D)."""
        groups = self.config.key_groups(len(images), distributed.world_size())
        if self.training and groups > 1 and len(images) < 2 * groups:
            raise UsageError(f"{len(images)} keys cannot be parted into {groups} groups (key_batch_norm_groups) of 2.")
        return self.momentum_encoder(images, groups)

    def arrange(self, items_a: Tensor, items_b: Tensor, bank: Tensor | None = None) -> F.PairScores:
        """Part similarities of queries with keys: each with its own, and with the queue's or the batch's others."""
        if bank is None:
            return F.split_diagonal(F.inner_products(items_a, items_b))
        return F.queue_scores(items_a, items_b, bank.mT)

    def objective(self, scores: F.PairScores, temperature: Any) -> Tensor:
        """InfoNCE; without a queue the sum of both directions, times 2 T if T is one number, as version 3 has it."""
        cost = super().objective(scores, temperature)
        if self.config.queue_length:
            return cost
        return 2 * cost if isinstance(temperature, F.PairScores) else 4 * temperature * cost

    def check_data(self, batch_size: int, rows: int | None) -> None:
        """Raise UsageError for a queue that the global batch does not divide; warn of one longer than the data."""
        super().check_data(batch_size, rows)
        share, groups = batch_size // distributed.world_size(), self.config.key_batch_norm_groups or 1
        if groups > 1 and (share % groups or share < 2 * groups):
            raise UsageError(
                f"--key_batch_norm_groups {groups} does not part the {share} keys of a process into equal groups of 2 "
                f"or more: choose a divisor of {share}, or 1."
            )
        length = self.config.queue_length
        if length % batch_size:
            nearest = max(1, round(length / batch_size)) * batch_size
            raise UsageError(
                f"--queue_length {length} is not a multiple of --batch_size {batch_size}: the nearest is {nearest}."
            )
        if rows is not None and length > rows:
            logger.warning(
                "The queue of %d keys is longer than the data of %d images: some negatives will be the image itself.",
                length,
                rows,
            )

    def after_step(self, output: SSLOutput, progress: float) -> None:
        """Let the slow copy follow, and queue the keys that were just compared."""
        config = self.config
        share = F.momentum(progress, total_steps=1, start=config.momentum, schedule=config.momentum_schedule)
        self.momentum_encoder.follow(self.backbone, self.projector, share)
        if config.queue_length and output.embeddings is not None:
            self.queue.enqueue(F.normalize(output.embeddings[1][0]))
