"""Every random number of a batch of views, drawn on the CPU before a pixel is touched.

The numbers of the whole global batch come from one generator and are sliced afterwards, so they do not depend on how
many processes share the batch, on how many workers decode it or on the device that computes the views. Each image and
each view has its own draw of everything. Crops are kept as uniform numbers until an image's size is known.

Letters: B images of the global batch, K uniform numbers a crop.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hf_ssl.augmentations.recipes import Recipe, ViewRecipe

CROP_TRIES = 10
CROP_NUMBERS = 2 * CROP_TRIES + 2
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


@dataclass(frozen=True)
class ViewParameters:
    """What happens to each image's two views; CPU tensors, rows first.

    flip, jitter, grey, blur, solarize: bool (B, 2), whether the operation happens. factors: float (B, 2, 4),
    brightness, contrast, saturation, and the hue's shift in turns. order: int64 (B, 2, 4), which of the four comes
    first, second, ... sigma: float (B, 2), the blur's in pixels.
    """

    flip: Tensor
    jitter: Tensor
    grey: Tensor
    blur: Tensor
    solarize: Tensor
    factors: Tensor
    order: Tensor
    sigma: Tensor

    def __len__(self) -> int:
        return len(self.flip)

    def rows(self, selection: slice | Tensor) -> "ViewParameters":
        """Keep the rows in `selection`, a process's share of the batch for example."""
        return ViewParameters(*(getattr(self, field.name)[selection] for field in fields(self)))

    def flat(self) -> "ViewParameters":
        """Put views one below the other: row 2 i is view a of image i, row 2 i + 1 its view b."""
        return ViewParameters(*(getattr(self, field.name).flatten(0, 1) for field in fields(self)))


def draw_crops(recipe: Recipe, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw the uniform numbers of every crop: (B, 2, K) in [0, 1).

    K is the same for every recipe, so that a recipe's numbers never shift the draws that come after.
    """
    return torch.rand(batch_size, len(recipe.views), CROP_NUMBERS, generator=generator)


def crop_boxes(uniforms: Tensor, height: int, width: int, recipe: Recipe) -> Tensor:
    """Turn uniform numbers (..., 2, K) into boxes (..., 2, 4) int64: top, left, height, width in pixels.

    torchvision's RandomResizedCrop: up to ten tries of an area and a log-uniform aspect ratio, the first that fits is
    placed uniformly; if none fits, the largest central box within the allowed ratios.
    """
    uniforms = uniforms.double()
    areas, ratios, places = uniforms.split((CROP_TRIES, CROP_TRIES, 2), dim=-1)
    scale = _bounds(recipe, "crop_scale")
    log_ratio = _bounds(recipe, "crop_ratio").log()
    area = height * width * _between(areas, scale)
    ratio = _between(ratios, log_ratio).exp()
    sides = torch.stack(((area / ratio).sqrt(), (area * ratio).sqrt()), dim=-1).round()  # (..., 2, tries, 2)
    limits = torch.tensor((height, width), dtype=torch.double)
    fits = ((sides > 0) & (sides <= limits)).all(dim=-1)
    first = fits.int().argmax(dim=-1, keepdim=True)
    chosen = sides.take_along_dim(first.unsqueeze(-1), dim=-2).squeeze(-2)
    spare = limits - chosen
    placed = torch.minimum((places * (spare + 1)).floor(), spare)
    central = torch.tensor([_central_box(height, width, view) for view in recipe.views], dtype=torch.double)
    boxes = torch.where(fits.any(dim=-1, keepdim=True), torch.cat((placed, chosen), dim=-1), central)
    return boxes.long()


def draw_parameters(recipe: Recipe, batch_size: int, generator: torch.Generator | None = None) -> ViewParameters:
    """Draw whether, how strongly and in which order everything but the crop happens to (B, 2) views."""
    uniforms = torch.rand(batch_size, len(recipe.views), 14, generator=generator)
    happens, strengths, sigma, keys = uniforms.split((5, 4, 1, 4), dim=-1)
    probabilities = torch.tensor([(v.flip, v.jitter, v.grey, v.blur, v.solarize) for v in recipe.views])
    flip, jitter, grey, blur, solarize = (happens < probabilities).unbind(dim=-1)
    ranges = torch.tensor([_strengths(view) for view in recipe.views])
    factors = ranges[..., 0] + strengths * (ranges[..., 1] - ranges[..., 0])
    order = keys.argsort(dim=-1, stable=True)  # sorting uniform keys makes every order equally likely
    sigma = _between(sigma, _bounds(recipe, "blur_sigma").float()).squeeze(-1)
    return ViewParameters(flip, jitter, grey, blur, solarize, factors, order, sigma)


def _strengths(view: ViewRecipe) -> list[tuple[float, float]]:
    ranges = [(max(0.0, 1 - value), 1 + value) for value in (view.brightness, view.contrast, view.saturation)]
    return [*ranges, (-view.hue, view.hue)]


def _bounds(recipe: Recipe, field: str) -> Tensor:
    """Both views' (low, high): (2, 2)."""
    return torch.tensor([getattr(view, field) for view in recipe.views], dtype=torch.double)


def _between(uniforms: Tensor, bounds: Tensor) -> Tensor:
    """Uniform numbers (..., 2, n) in each view's range, bounds (2, 2)."""
    low, high = bounds.split(1, dim=-1)
    return low + uniforms * (high - low)


def _central_box(height: int, width: int, view: ViewRecipe) -> tuple[int, int, int, int]:
    narrowest, widest = view.crop_ratio
    box_height, box_width = height, width
    if width / height < narrowest:
        box_height = round(width / narrowest)
    elif width / height > widest:
        box_width = round(height * widest)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width
