"""What sits between the backbone and the objective: projectors, predictors and the temperature.

C heads are computed as one: layer l of all heads is a single batched product, and one BatchNorm over all C x width
channels is exactly one BatchNorm for each head. With C = 1 parameters have the names and shapes of a torch
`Sequential` of Linear, BatchNorm1d and ReLU, which is how published checkpoints store a projector.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from hf_ssl import functional as F
from hf_ssl.configuration import SSLConfig

BOUND, BINS = 0.01, 20  # of the range's width; bars of a histogram over the range
READ_ROWS = 256  # of a batch, for a reading: enough for its digits, and its cost does not grow with the batch


class HeadLinear(nn.Module):
    """C linear layers side by side, each initialised as torch's Linear.

    With `shared_input` all heads read the same (b, in); otherwise head c reads its share of (b, C * in).
    Returns (b, C * out). `weight` is (C * out, in) and `bias` (C * out), head after head.
    """

    def __init__(self, heads: int, in_features: int, out_features: int, *, bias: bool, shared_input: bool) -> None:
        super().__init__()
        self.heads, self.shared_input = heads, shared_input
        self.weight = nn.Parameter(torch.empty(heads * out_features, in_features))
        self.bias = nn.Parameter(torch.empty(heads * out_features)) if bias else None
        bound = in_features**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in) if the input is shared, else (b, C * in); -> (b, C * out)."""
        if self.shared_input or self.heads == 1:
            return nn.functional.linear(x, self.weight, self.bias)
        per_head = x.unflatten(1, (self.heads, -1)).transpose(0, 1)  # (C, b, in)
        product = torch.bmm(per_head, self.weight.unflatten(0, (self.heads, -1)).mT)
        output = product.transpose(0, 1).flatten(1)
        return output if self.bias is None else output + self.bias


class HeadMLP(nn.Sequential):
    """C perceptrons side by side: (Linear, BatchNorm, ReLU) for each hidden width, then a Linear."""

    def __init__(
        self,
        in_features: int,
        dims: Sequence[int],
        heads: int,
        *,
        shared_input: bool,
        norm: str = "batch",
        bias: bool = True,
        last_norm: bool = False,
    ) -> None:
        widths = [in_features, *dims]
        layers: list[nn.Module] = []
        for depth, (before, after) in enumerate(pairwise(widths)):
            last = depth == len(dims) - 1
            normed = last_norm if last else norm == "batch"
            has_bias = not normed and (bias or not last)  # a norm takes away what a bias adds
            shared = shared_input and depth == 0
            layers.append(HeadLinear(heads, before, after, bias=has_bias, shared_input=shared))
            if normed:
                layers.append(nn.BatchNorm1d(heads * after, affine=not last))
            if not last:
                layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)
        self.heads = heads

    def split(self, flat: Tensor) -> Tensor:
        """(b, C * D) -> (C, b, D)."""
        return flat.unflatten(1, (self.heads, -1)).transpose(0, 1)


class Projector(HeadMLP):
    """C projectors of one representation: (b, F) -> (C, b, D). `dims` are the layers' output widths, D the last."""

    def __init__(self, in_features: int, dims: Sequence[int], heads: int = 1, **options: Any) -> None:
        super().__init__(in_features, dims, heads, shared_input=True, **options)

    def forward(self, representation: Tensor) -> Tensor:
        """Project (b, F) to (C, b, D)."""
        return self.split(super().forward(representation))


def build_projector(config: SSLConfig, in_features: int) -> Projector:
    """Make the configured projector for representations (b, in_features)."""
    return Projector(
        in_features,
        config.projector_dims,
        config.num_heads,
        norm=config.projector_norm,
        bias=config.projector_bias,
        last_norm=config.projector_last_norm,
    )


class Predictor(HeadMLP):
    """One predictor for each head's embeddings: (C, b, D) -> (C, b, D')."""

    def __init__(self, in_features: int, dims: Sequence[int], heads: int = 1, **options: Any) -> None:
        super().__init__(in_features, dims, heads, shared_input=False, **options)

    def forward(self, embedding: Tensor) -> Tensor:
        """Predict from (C, b, D), each head by its own perceptron."""
        return self.split(super().forward(embedding.transpose(0, 1).flatten(1)))


class Temperature(nn.Module):
    """What scores are divided by: a number, or numbers with the scores' own shape."""

    is_constant = False

    def forward(self, model: nn.Module, anchors: Tensor, targets: Tensor) -> Any:
        """Return a number, or `PairScores` of numbers for the model's scores of (V, C, B, D) embeddings."""
        raise NotImplementedError

    def readings(self, model: nn.Module, anchors: Tensor, targets: Tensor) -> dict[str, Any]:
        """Say what the temperatures of these embeddings are, for a log; nothing where they are constant."""
        return {}


class AdaptiveTemperature(Temperature):
    """One learned temperature for each pair, from one perceptron that all heads share (AMCL, eq. 3).

    The model itself arranges what the perceptron gives, so temperatures have the shape of the model's scores.
    """

    def __init__(self, width: int, hidden: int, low: float, high: float, *, detach: bool = False) -> None:
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width))
        self.low, self.high, self.detach = low, high, detach

    def forward(self, model: Any, anchors: Tensor, targets: Tensor) -> F.PairScores:
        """Return temperatures in (low, high) for the scores of (V, C, B, D) embeddings."""
        if self.detach:
            anchors, targets = anchors.detach(), targets.detach()
        agreement = model.arrange(*(model.learned_items(z, self.phi) for z in (anchors, targets)), self.bank(model))
        return F.temperatures(agreement, self.low, self.high)

    @torch.no_grad()
    def readings(self, model: Any, anchors: Tensor, targets: Tensor) -> dict[str, Any]:
        """Mean, share within 1 % of the range's width of a bound, and a histogram over the range.

        Read from the first 256 rows of (V, C, B, D) embeddings.
        """
        temperatures = self(model, anchors[..., :READ_ROWS, :], targets[..., :READ_ROWS, :])
        count = sum(tau.numel() for tau in temperatures)
        total, at_bound, bars = 0.0, 0, torch.zeros(BINS, dtype=torch.int64, device=anchors.device)
        for tau in temperatures:  # one by one: joined they would be a copy as large as all scores
            place = (tau - self.low) / (self.high - self.low)
            total += float(tau.sum())
            at_bound += int(((place < BOUND) | (place > 1 - BOUND)).sum())
            bar = place.mul_(BINS).clamp_(0, BINS - 1).nan_to_num_(BINS).byte()  # what is no number falls outside
            bars += bar.flatten().bincount(minlength=BINS + 1)[:BINS]  # histc counts in floats, which stop at 2^24
        return {
            "temperature_mean": total / count,
            "temperature_at_bound": at_bound / count,
            "temperature_histogram": bars.tolist(),
        }

    def bank(self, model: Any) -> Tensor | None:
        """What the perceptron makes of the rows that every anchor is compared with."""
        return None if model.bank is None else self.phi(model.bank)


class ConstantTemperature(Temperature):
    """One number for all pairs, or None where a method divides its scores by nothing."""

    is_constant = True

    def __init__(self, value: float | None = None) -> None:
        super().__init__()
        self.value = value

    def forward(self, model: nn.Module, anchors: Tensor, targets: Tensor) -> float | None:
        """Return the number, whatever the embeddings are."""
        return self.value
