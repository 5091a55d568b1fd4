"""From a batch of uint8 images to two normalised views of each, on the images' device.

Views that shift their hue at the same place of their jitter run together; operations that only some views drew touch
only those. Which ones is known on the host before anything starts, so the device is never asked. On a CPU the groups
are cut into pieces that stay in its cache.

Letters: b images, C channels, H x W their size, s the views' size, K uniform numbers a crop.
"""

import logging
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from hf_ssl.augmentations import colour
from hf_ssl.augmentations.blur import blur
from hf_ssl.augmentations.geometry import crop
from hf_ssl.augmentations.lookup import get_recipe
from hf_ssl.augmentations.parameters import HUE, ViewParameters, crop_boxes, draw_crops, draw_parameters
from hf_ssl.augmentations.recipes import Recipe
from hf_ssl.errors import UsageError

logger = logging.getLogger(__name__)

NO_JITTER = 4  # one past the last place a hue shift can have
CPU_PIECE = 1 << 17  # values at once; half a MB stays in a core's second-level cache
DEVICE_PIECE = 1 << 27


def make_views(
    images: Tensor, recipe: str | Path | Recipe, size: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw and compute two views of each image: uint8 (b, C, H, W) -> float32 (b, 2, C, s, s), normalised.

    Rows keep their order and the views are on the images' device; `generator` is a CPU generator (None: torch's own),
    so that equal seeds give equal views on any device. Float images must be shares of full scale. Raises `UsageError`
    for an unknown recipe, other shapes or dtypes, a size below 1 or a generator that is not on the CPU.
    """
    recipe = get_recipe(recipe)
    if images.ndim != 4:
        raise UsageError(f"images have shape {tuple(images.shape)} but must be (batch, channels, height, width)")
    if generator is not None and generator.device.type != "cpu":
        raise UsageError(
            f"the generator is on '{generator.device}' but must be on the CPU, so that views do not depend on it"
        )
    crops = draw_crops(recipe, len(images), generator)
    parameters = draw_parameters(recipe, len(images), generator)
    return apply_views(images, crops, parameters, recipe, size)


@torch.no_grad()
def apply_views(images: Tensor, crops: Tensor | None, parameters: ViewParameters, recipe: Recipe, size: int) -> Tensor:
    """Compute views from parameters that were drawn: -> float32 (b, 2, C, s, s), normalised, contiguous.

    images (b, C, H, W) with `crops` (b, 2, K), or crops that a worker cut, (b, 2, C, s, s), with None. For the latter
    colour comes after the crop whatever `recipe.crop_last` says. Operations on colour need three channels; others are
    left out, with a notice.
    """
    _check(images, crops, size)
    channels, height, width = images.shape[-3:]
    device, is_rgb = images.device, channels == colour.RGB
    if not is_rgb:
        _say_without_colour(channels)
    sources = images.flatten(0, 1) if crops is None else images
    boxes = None if crops is None else crop_boxes(crops.cpu(), height, width, recipe).flatten(0, 1)
    drawn = parameters.flat()
    views = torch.empty(len(drawn), channels, size, size, device=device)

    def cut(x: Tensor, rows: Tensor, own: ViewParameters) -> Tensor:
        if boxes is None:
            return _where(own.flip, x, lambda some, _: some.flip(-1))
        return crop(x, move(boxes[rows], device), move(own.flip, device), size, recipe.interpolation)

    with torch.autocast(device.type, enabled=False):
        for hue_at, rows in _pieces(drawn, is_rgb, channels * max(height * width, size * size), device):
            own = drawn.rows(rows)
            x = _shares(sources.index_select(0, move(rows if boxes is None else rows // 2, device)))
            x = x if recipe.crop_last else cut(x, rows, own)
            x = _recolour(x, own, hue_at, is_rgb)
            x = cut(x, rows, own) if recipe.crop_last else x
            x = _finish(x, own, recipe)
            views.index_copy_(0, move(rows, device), x)
    return views.view(-1, 2, channels, size, size)


def _recolour(x: Tensor, own: ViewParameters, hue_at: int, is_rgb: bool) -> Tensor:
    """Jitter all of these views, which shift their hue at the same place, and turn those grey that drew it."""
    if hue_at != NO_JITTER:
        plans = move(colour.blends(own.factors, own.order, is_rgb), x.device)
        turns = move(own.factors[:, HUE], x.device) if is_rgb else None
        x = colour.jitter(x.flatten(2), plans, turns, hue_at).view_as(x)
    if is_rgb:
        x = _where(own.grey, x, lambda some, _: colour.grey(some).expand_as(some))
    return x


def _finish(x: Tensor, own: ViewParameters, recipe: Recipe) -> Tensor:
    """Blur and solarise the views that drew it, and normalise all."""
    kernel = recipe.kernel_size(x.shape[-1])
    x = _where(own.blur, x, lambda some, chosen: blur(some, move(own.sigma[chosen], x.device), kernel))
    x = _where(own.solarize, x, lambda some, _: colour.solarize(some, recipe.solarize_threshold))
    return colour.normalize(x, *recipe.statistics(x.shape[1]))


def _pieces(drawn: ViewParameters, is_rgb: bool, values: int, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Yield (place of the hue shift, rows): views of one group, as many as fit a piece at `values` numbers a view."""
    places = (drawn.order == HUE).int().argmax(dim=-1) if is_rgb else torch.zeros(len(drawn), dtype=torch.long)
    places = places.masked_fill(~drawn.jitter, NO_JITTER)
    limit = max(1, (CPU_PIECE if device.type == "cpu" else DEVICE_PIECE) // values)
    for place in range(NO_JITTER + 1):
        rows = (places == place).nonzero().flatten()
        if len(rows):
            yield from ((place, piece) for piece in rows.tensor_split(math.ceil(len(rows) / limit)))


def _where(chosen: Tensor, x: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Run `change` on the views that a host mask (n,) chooses, and on no others."""
    rows = chosen.nonzero().flatten()
    if len(rows) == 0:
        return x
    if len(rows) == len(x):
        return change(x, rows).contiguous()
    index = move(rows, x.device)
    return x.index_copy_(0, index, change(x.index_select(0, index), rows))


def _shares(pixels: Tensor) -> Tensor:
    """Pixels as shares of full scale."""
    return pixels * (1 / 255) if pixels.dtype == torch.uint8 else pixels.to(torch.float32)


def move(values: Tensor, device: torch.device) -> Tensor:
    """Send a tensor to the device without making it wait; what is there already stays."""
    pinned = values.pin_memory() if device.type == "cuda" and values.device.type == "cpu" else values
    return pinned.to(device, non_blocking=True)


def _check(images: Tensor, crops: Tensor | None, size: int) -> None:
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise UsageError(f"images are {images.dtype} but must be uint8, or float in [0, 1]")
    if size < 1:
        raise UsageError(f"views of {size} pixels cannot be made; the size must be at least 1")
    if crops is None and images.shape[-2:] != (size, size):
        raise UsageError(f"crops of {images.shape[-2]} x {images.shape[-1]} pixels cannot be views of {size}")


@cache
def _say_without_colour(channels: int) -> None:
    logger.info(
        "images have %d channels: saturation, hue and grey, which need red, green and blue, are left out", channels
    )
