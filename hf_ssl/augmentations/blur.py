"""Gaussian blur as two matrix products with the views' own weights.

A separable filter with reflected edges is a matrix along each axis, so the blur takes the same road as the crop: no
padding, no kernel per image, and only the views that drew it are touched.
"""

from functools import lru_cache

import torch
from torch import Tensor

from hf_ssl.augmentations.geometry import resample

NOTHING = 1e-12  # far tails would be denormal numbers, with which a product takes ten times as long


def blur(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur views (n, C, s, s), each with its sigma (n,) in pixels and a window of `kernel` pixels, edges reflected.

    Equals torchvision's gaussian_blur; the window is cut to what a small view can reflect.
    """
    weights = blur_weights(sigma, kernel, x.shape[-1])
    return resample(x, weights, weights)


def blur_weights(sigma: Tensor, kernel: int, length: int) -> Tensor:
    """Each sigma's filter along an axis: (n,) -> (n, length, length)."""
    radius = min(kernel // 2, length - 1)
    taps = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float32)
    weights = torch.softmax(-0.5 * (taps / sigma.unsqueeze(1)).square(), dim=1)
    weights = torch.nn.functional.threshold(weights, NOTHING, 0.0)
    matrix = weights.new_zeros(len(sigma), length * length)
    matrix.index_add_(1, _places(radius, length, sigma.device), weights.repeat_interleave(length, dim=1))
    return matrix.view(-1, length, length)


@lru_cache(maxsize=8)
def _places(radius: int, length: int, device: torch.device) -> Tensor:
    """Where each tap of each output pixel lands in the flattened matrix: (taps * length,)."""
    outputs = torch.arange(length)
    inputs = outputs + torch.arange(-radius, radius + 1).unsqueeze(1)
    reflected = (length - 1) - (inputs.abs() - (length - 1)).abs()
    return (outputs * length + reflected).flatten().to(device)
