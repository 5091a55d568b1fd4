"""What the network sees: pairs of views as one picture, to look at before hours are spent on them.

A pair stands in one column, view a above view b.
"""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from hf_ssl.augmentations import Recipe

ROWS = 4  # pairs below one another, at most
SMALLEST_TILE = 64  # smaller views are enlarged pixel by pixel
GAP, MARGIN = 2, 8  # pixels between the views of a pair, and between pairs


def contact_sheet(views: Tensor, recipe: Recipe, path: Path, columns: int = 8) -> None:
    """Write the first pairs of `views` (b, 2, C, s, s), normalised by `recipe`, as a PNG of `columns` pairs a row.

    Three channels are shown in colour, other numbers as the grey of their mean.
    """
    pairs = _levels(views[: columns * ROWS].detach().to("cpu", torch.float32), recipe)
    tile, columns = pairs.shape[-2], min(columns, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    width, height = tile + MARGIN, 2 * tile + GAP + MARGIN
    sheet = torch.full((rows * height + MARGIN, columns * width + MARGIN, 3), 255, dtype=torch.uint8)
    for number, pair in enumerate(pairs):
        top, left = number // columns * height + MARGIN, number % columns * width + MARGIN
        for view, picture in enumerate(pair):
            start = top + view * (tile + GAP)
            sheet[start : start + tile, left : left + tile] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.numpy()).save(path)


def _levels(views: Tensor, recipe: Recipe) -> Tensor:
    """Undo the normalising: (b, 2, C, s, s) -> (b, 2, tile, tile, 3) uint8."""
    channels, size = views.shape[2], views.shape[-1]
    mean, std = (torch.tensor(values).view(channels, 1, 1) for values in recipe.statistics(channels))
    shares = (views * std + mean).clamp(0, 1)
    colours = shares if channels == 3 else shares.mean(dim=2, keepdim=True).expand(-1, -1, 3, -1, -1)
    times = math.ceil(SMALLEST_TILE / size)
    enlarged = colours.repeat_interleave(times, dim=-1).repeat_interleave(times, dim=-2)
    return (enlarged * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2)
