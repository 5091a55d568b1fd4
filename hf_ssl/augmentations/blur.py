"""Gaussian blur as two matrix products with the views' own weights.

A separable filter with reflected edges is a matrix along each axis, so the blur takes the same road as the crop: no
padding, no kernel per image, and only the views that drew it are touched.
"""

from functools import lru_cache

import torch
from torch import Tensor

from hf_ssl.augmentations.geometry import resample


def blur(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur views (n, C, s, s), each with its sigma (n,) in pixels and a window of `kernel` pixels, edges reflected.

    Equals torchvision's gaussian_blur; the window is cut to what a small view can reflect.
    """
    rows, columns = (blur_weights(sigma, kernel, length) for length in x.shape[-2:])
    return resample(x, rows, columns)


def blur_weights(sigma: Tensor, kernel: int, length: int) -> Tensor:
    """Each sigma's filter along an axis: (n,) -> (n, length, length)."""
    radius = min(kernel // 2, length - 1)
    taps = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float32)
    weights = torch.softmax(-0.5 * (taps / sigma.unsqueeze(1)).square(), dim=1)
    return (weights @ _placement(radius, length, sigma.device)).view(-1, length, length)


@lru_cache(maxsize=8)
def _placement(radius: int, length: int, device: torch.device) -> Tensor:
    """Where each tap of each output pixel lands: (taps, length * length) of zeros and ones."""
    outputs = torch.arange(length)
    places = outputs + torch.arange(-radius, radius + 1).unsqueeze(1)
    reflected = (length - 1) - (places.abs() - (length - 1)).abs()
    return torch.nn.functional.one_hot(reflected, length).flatten(1).to(device, torch.float32)
