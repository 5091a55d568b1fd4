"""Colour, batched: every view has its own strengths and its own order of the four jitter operations.

Brightness, contrast and saturation are one operation with three references: draw the image away from (or towards)
black, its mean grey, or its own grey. So a view's jitter is three blends with a hue shift somewhere among them, and
views that shift their hue at the same place run together without a branch. Values are shares of full scale, layout
(n, C, P): n views, C channels, P pixels. Everything equals torchvision.transforms.v2 on float tensors; the functions
change their first argument in place.
"""

from functools import lru_cache

import torch
from torch import Tensor

from hf_ssl.augmentations.parameters import CONTRAST, HUE, SATURATION

RGB = 3
LUMA = (0.2989, 0.587, 0.114)
NO_COLOUR = 1e-12  # below this spread of the channels a hue means nothing


def grey(x: Tensor) -> Tensor:
    """Luma of RGB, else the mean of the channels: (n, C, P) -> (n, 1, P)."""
    if x.shape[1] != RGB:
        return x.mean(dim=1, keepdim=True)
    red, green, blue = x.split(1, dim=1)
    return torch.mul(red, LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def blends(factors: Tensor, order: Tensor, is_rgb: bool) -> Tensor:
    """Plan the three blends of each view in its own order: factors and order (n, 4) -> (3, n, 3).

    The last axis is (1 - factor, share of the own grey in the reference, share of the mean grey). Without RGB the
    saturation is left alone.
    """
    operations = order[order != HUE].view(-1, 3)
    away = 1 - factors.gather(1, operations)
    if not is_rgb:
        away = away.masked_fill(operations == SATURATION, 0.0)
    references = torch.stack((operations == SATURATION, operations == CONTRAST), dim=-1).to(away.dtype)
    return torch.cat((away.unsqueeze(-1), references), dim=-1).transpose(0, 1)


def blend(x: Tensor, plan: Tensor) -> Tensor:
    """One of brightness, contrast or saturation for each view: x (n, C, P), plan (n, 3)."""
    away, own, mean = plan[:, :, None, None].unbind(dim=1)
    reference = grey(x)
    average = reference.mean(dim=-1, keepdim=True) * mean
    return x.lerp_(reference.mul_(own).add_(average), away).clamp_(0.0, 1.0)


def shift_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue: x (n, 3, P), turns (n,) in [-0.5, 0.5].

    Exactly HSV's hue without going there and back: value and chroma stay, and a channel's height above the minimum
    depends only on its distance from its own peak on the circle of hues (red 0, green 2, blue 4 of 6).
    """
    red, green, blue = x.split(1, dim=1)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = torch.maximum(torch.maximum(red, green), blue).sub_(smallest)
    heights = (x - smallest).div_(chroma.clamp_min(NO_COLOUR))
    red, green, blue = heights.split(1, dim=1)
    # Where a channel is the largest its height is exactly 1, so floor() is a mask, and lerp_ with it a choice.
    hue = (red - green).add_(4).lerp_((blue - red).add_(2), green.floor()).lerp_(green - blue, red.floor())
    peaks = 2 * torch.arange(RGB, device=x.device).view(1, RGB, 1)
    sixths = hue + (6 * turns.view(-1, 1, 1) + 9 - peaks)  # + 6 keeps it positive, + 3 puts the peak at a half
    distance = sixths.mul_(1 / 6).frac_().sub_(0.5).abs_()
    return torch.addcmul(smallest, distance.mul_(-6).add_(2).clamp_(0.0, 1.0), chroma, out=x).clamp_(0.0, 1.0)


def jitter(x: Tensor, plans: Tensor, turns: Tensor | None, hue_at: int) -> Tensor:
    """Three blends with the hue shift (None: left out) before blend number `hue_at`: plans (3, n, 3), turns (n,)."""
    for place in range(len(plans) + 1):
        if place == hue_at and turns is not None:
            x = shift_hue(x, turns)
        if place < len(plans):
            x = blend(x, plans[place])
    return x


def solarize(x: Tensor, threshold: float) -> Tensor:
    """Invert what is at or above `threshold`."""
    above = x.clone().ge_(threshold)  # zeros and ones: several times faster than a choice by booleans
    return x.addcmul_(above, 1 - 2 * x)


def normalize(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Subtract the mean and divide by the deviation, one a channel: (n, C, s, s)."""
    return x.sub_(_per_channel(mean, x.device)).div_(_per_channel(std, x.device))


@lru_cache(maxsize=32)
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Kept from call to call, because a copy from the host would make the device wait."""
    return torch.tensor(values, device=device).view(1, -1, 1, 1)
