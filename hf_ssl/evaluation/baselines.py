"""What a trained network has to beat: the pixels themselves, and the same network before training."""

import torch
from torch import Tensor, nn

from hf_ssl.backbone import create_backbone
from hf_ssl.configuration import SSLConfig
from hf_ssl.evaluation.features import Encode


def raw_pixels(images: Tensor) -> Tensor:
    """Represent images (b, C, H, W) by their pixels, (b, C * H * W)."""
    return images.flatten(start_dim=1)


def untrained(config: SSLConfig, seed: int = 0, device: torch.device | str = "cpu") -> Encode:
    """Return the backbone of `config` with the weights it starts from, in eval mode; the global generator is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = create_backbone(config).to(device).eval()

    def encode(images: Tensor) -> Tensor:
        return network(images).to(torch.float32)

    return encode
