"""How an image enters a trained network: what the published `AutoImageProcessor` does, but batched on the device.

The published processor (timm's) works through Pillow, image by image: the short side is resized to size / crop_pct,
the centre is cut out, and the pixels are normalised. Here the same happens on uint8 tensors. Pillow sums integer
weights of 22 fractional bits along one axis and then along the other, and rounds to whole grey levels after each; the
same sums in int32 give the same bytes on any device, overshoot at edges included.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import PIL
import torch
from torch import Tensor

SMALL = 96  # up to this training size whole images are used; above it the papers resize to 256 and cut 224
DOWN_FIRST = int(PIL.__version__.split(".")[0]) >= 13  # since then Pillow begins with the height where it shrinks most
BITS = 22  # fractional bits of Pillow's weights: 8 of the pixel and 2 for sums and signs stay free in int32


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop and normalisation: uint8 images of any size to float32 (B, C, size, size).

    size: pixels; mean, std: one number a channel, for pixels in [0, 1]; crop_pct: the share of the resized short
    side that the crop keeps; interpolation: "bicubic" or "bilinear", both with antialiasing.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0
    interpolation: str = "bicubic"

    @classmethod
    def for_training_size(cls, size: int, mean: Sequence[float], std: Sequence[float]) -> "Preprocess":
        """Return the preprocessing of a model that was trained on `size` pixels."""
        return cls(size, tuple(mean), tuple(std), crop_pct=1.0 if size <= SMALL else 0.875)

    @classmethod
    def from_pretrained_cfg(cls, pretrained_cfg: dict[str, Any]) -> "Preprocess":
        """Read timm's description of a model's input.

        Raises:
            ValueError: if it asks for something that is not a square centre crop.

        """
        _, height, width = pretrained_cfg["input_size"]
        interpolation = pretrained_cfg.get("interpolation") or "bicubic"
        crop_mode = pretrained_cfg.get("crop_mode") or "center"
        if height != width or crop_mode != "center":
            raise ValueError(f"only square centre crops are known, not {height} x {width} '{crop_mode}'")
        if interpolation not in ("bicubic", "bilinear"):
            raise ValueError(f"the interpolation '{interpolation}' is neither bicubic nor bilinear")
        mean, std = tuple(pretrained_cfg["mean"]), tuple(pretrained_cfg["std"])
        return cls(height, mean, std, pretrained_cfg.get("crop_pct") or 0.875, interpolation)

    def as_pretrained_cfg(self) -> dict[str, Any]:
        """Describe it in timm's words; `AutoImageProcessor` and timm read them."""
        words = asdict(self)
        size = words.pop("size")
        return {"input_size": [len(self.mean), size, size], **words, "mean": [*self.mean], "std": [*self.std]}

    def describe(self) -> str:
        """Say it in a few words, for a row of results."""
        return f"resize {self.resized_side} {self.interpolation}, centre crop {self.size}"

    @property
    def resized_side(self) -> int:
        """Short side after resizing, in pixels."""
        return math.floor(self.size / self.crop_pct)

    def __call__(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Prepare images for the network: uint8 (B, C, H, W), or a list of (C, H, W) of mixed sizes, to float32."""
        return self.normalize(self.cut(images) if isinstance(images, Tensor) else self.cut_each(images))

    def cut(self, images: Tensor) -> Tensor:
        """Resize the short side and cut the centre: uint8 (..., C, H, W) to uint8 (..., C, size, size)."""
        height, width = images.shape[-2:]
        short = min(height, width)
        sides = [int(self.resized_side * side / short) for side in (height, width)]
        rows, columns = (round((side - self.size) / 2) + torch.arange(self.size) for side in sides)
        first_down = DOWN_FIRST and sides[0] < height and height - sides[0] > 2 * (width - sides[1])
        if first_down:
            images = resize_height(images, sides[0], rows, self.interpolation)
        images = resize_height(images.mT, sides[1], columns, self.interpolation).mT
        if not first_down:
            images = resize_height(images, sides[0], rows, self.interpolation)
        return images.contiguous()

    def cut_each(self, images: Sequence[Tensor]) -> Tensor:
        """`cut` for images (C, H, W) of mixed sizes, those of one size together: uint8 (B, C, size, size)."""
        places: dict[torch.Size, list[int]] = {}
        for place, image in enumerate(images):
            places.setdefault(image.shape, []).append(place)
        groups = [self.cut(torch.stack([images[place] for place in group])) for group in places.values()]
        order = torch.tensor([place for group in places.values() for place in group])
        return torch.cat(groups)[torch.argsort(order).to(groups[0].device)]

    def normalize(self, images: Tensor) -> Tensor:
        """Uint8 (..., C, H, W) to float32 with the training data's mean and deviation taken out."""
        mean, std = (torch.tensor(numbers, device=images.device).view(-1, 1, 1) for numbers in (self.mean, self.std))
        return (images.to(torch.float32) / 255 - mean) / std


def resize_height(images: Tensor, height: int, rows: Tensor, interpolation: str) -> Tensor:
    """Resize the rows as Pillow does, antialiased, to `height`, of which only `rows` (R,) int64 are computed.

    uint8 (..., H, W) to uint8 (..., R, W), contiguous.
    """
    if images.shape[-2] == height:
        return images.index_select(-2, rows.to(images.device))
    taps, weights = (table[:, rows].to(images.device) for table in _taps(images.shape[-2], height, interpolation))
    images = images.to(torch.int32, memory_format=torch.contiguous_format)  # whole rows are copied fastest
    half = 1 << (BITS - 1)
    total = torch.full(
        (*images.shape[:-2], len(rows), images.shape[-1]), half, dtype=torch.int32, device=images.device
    )
    for tap, weight in zip(taps, weights, strict=True):
        total.addcmul_(images.index_select(-2, tap), weight[:, None])
    return (total >> BITS).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=256)
def _taps(old: int, new: int, interpolation: str) -> tuple[Tensor, Tensor]:
    """For every output pixel the input pixels it is summed from and their weights: (K, new) int64 and int32."""
    stretch = max(old / new, 1.0)
    reach = stretch * (2 if interpolation == "bicubic" else 1)
    centre = (torch.arange(new, dtype=torch.float64) + 0.5) * (old / new)
    first, last = (centre - reach + 0.5).clamp(min=0).floor(), (centre + reach + 0.5).floor().clamp(max=old)
    taps = first + torch.arange(2 * math.ceil(reach) + 1, dtype=torch.float64)[:, None]
    distance = ((taps - centre + 0.5) / stretch).abs()
    weights = (_cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp(min=0)).where(taps < last, 0)
    whole = (weights / weights.sum(dim=0) * (1 << BITS)).round()
    return taps.clamp(max=old - 1).to(torch.int64), whole.to(torch.int32)


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic with a = -0.5, for distances of at least 0."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = -0.5 * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance < 1, near, far.where(distance < 2, 0))
