"""A SimCLR in miniature that uses every door of the base class, and small models of every method."""

import math
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, AutoModel

from hf_ssl import functional as F
from hf_ssl.configuration import SSLConfig, setting
from hf_ssl.heads import ConstantTemperature, Predictor, Temperature
from hf_ssl.methods import METHODS
from hf_ssl.modeling import SSLModel


@strict
class TinyConfig(SSLConfig):
    model_type = "tiny_contrastive"

    temperature: float | int = setting(0.2, "what similarities are divided by")
    learn_temperature: bool = setting(False, "one temperature for each pair")
    queue_length: int = setting(0, "rows kept from earlier steps")
    predictor: bool = setting(False, "predict each view from the other")


class LearnedTemperature(Temperature):
    """Between 0.1 and 1, shaped like the scores, from what the model itself arranges."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.phi = nn.Linear(width, width)

    def forward(self, model, anchors, targets):
        learned = model.arrange(self.phi(model.items(anchors)), self.phi(model.items(targets)), model.bank)
        return F.PairScores(*(0.1 + 0.9 * torch.sigmoid(-score) for score in learned))


class TinyContrastive(SSLModel):
    """InfoNCE of view a against the views b of the batch and a queue; with a predictor, in both directions."""

    config_class = TinyConfig

    def build(self):
        if self.config.predictor:
            width = self.config.projector_dims[-1]
            self.predictor = Predictor(width, (8, width), self.config.num_heads, norm=self.config.projector_norm)
        if self.config.queue_length:
            rows = torch.randn(self.config.num_heads, self.config.queue_length, self.config.projector_dims[-1])
            self.register_buffer("queue", nn.functional.normalize(rows, dim=-1))

    def build_temperature(self):
        if self.config.learn_temperature:
            return LearnedTemperature(self.config.projector_dims[-1])
        return ConstantTemperature(self.config.temperature)

    @property
    def bank(self):
        return self.queue if self.config.queue_length else None

    def sides(self, view_a, view_b):
        z_a, z_b = self.embed(view_a), self.embed(view_b)
        if not self.config.predictor:
            return z_a[None], z_b[None]
        predictions = torch.stack([self.predictor(z_a), self.predictor(z_b)])
        return predictions, torch.stack([z_b, z_a]).detach()

    def items(self, z):
        return F.normalize(z)

    def arrange(self, items_a, items_b, bank=None):
        positive, negative = F.split_diagonal(items_a @ items_b.mT)
        return F.PairScores(positive, negative if bank is None else torch.cat([negative, items_a @ bank.mT], dim=-1))

    def objective(self, scores, temperature):
        if not isinstance(temperature, F.PairScores):
            temperature = F.PairScores(temperature, temperature)
        positive = (scores.positive / temperature.positive)[..., None]
        logits = torch.cat([positive, scores.negative / temperature.negative], dim=-1)
        return (logits.logsumexp(dim=-1) - positive[..., 0]).mean(dim=-1)

    def mix(self, z_mix, z_a, z_b, alpha, permutation):
        mixed, a, b = map(F.normalize, (z_mix, z_a, z_b))
        return sum(
            (((mixed - alpha * a - (1 - alpha) * b[:, permutation]) @ other.mT) ** 2).mean(dim=(-2, -1))
            for other in (a, b)
        )

    def after_step(self, output, progress):
        if self.config.queue_length:
            keys = F.normalize(output.embeddings[1][0])
            self.queue.copy_(torch.cat([self.queue[:, keys.shape[1] :], keys.to(self.queue.dtype)], dim=1))


AutoConfig.register("tiny_contrastive", TinyConfig, exist_ok=True)
AutoModel.register(TinyConfig, TinyContrastive, exist_ok=True)

BUILDERS = {  # every registered method, and the doors that later methods go through
    **{name: (method, {}) for name, method in METHODS.items()},
    "contrastive": (TinyContrastive, {}),
    "contrastive_mixed": (TinyContrastive, {"mix_weight": 1.0}),
    "contrastive_adaptive_heads": (TinyContrastive, {"num_heads": 3, "learn_temperature": True, "mix_weight": 1.0}),
    "contrastive_predictor": (TinyContrastive, {"predictor": True, "num_heads": 2}),
    "contrastive_queue": (TinyContrastive, {"queue_length": 24}),
}
CONSTANT = {"contrastive": lambda rows: math.log(rows), "contrastive_mixed": lambda rows: math.log(rows)}


def small_model(name: str, seed: int = 0, **settings: Any) -> SSLModel:
    """A model of `name` on timm's smallest ResNet: 16 hidden, 8 embedding dimensions unless said otherwise."""
    method, own = BUILDERS[name]
    torch.manual_seed(seed)
    return method(method.config_class(**{"backbone": "test_resnet", "projector_dims": (16, 8), **own, **settings}))


def views(rows: int = 6, seed: int = 0, size: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.randn(rows, 2, channels, size, size, generator=torch.Generator().manual_seed(seed))
