"""What a forward pass gives back."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class SSLOutput(ModelOutput):
    """What a forward pass gives.

    loss: () to minimise; terms: name -> () detached summands of the loss, weights included;
    embeddings: detached anchors and targets of the global batch, each (V, C, B, D).
    """

    loss: Tensor | None = None
    terms: dict[str, Tensor] | None = None
    embeddings: tuple[Tensor, Tensor] | None = None
