"""Crops and flips as matrix products.

Resizing an image is linear and separable: rows times image times columns, with weights that depend only on the box.
Two batched products therefore crop, resize and flip a whole batch, each image by its own box, with nothing sampled
outside of it. The weights are those of torch's antialiased interpolation (Pillow's filters).

Letters: n views, C channels, H x W the image, s the view's size.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hf_ssl.augmentations.parameters import crop_boxes
from hf_ssl.augmentations.recipes import Recipe

CUBIC = -0.5  # Pillow's and torch's sharpness of the antialiased bicubic filter


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply weights along both axes: images (n, C, H, W), rows (n, s, H), columns (n, s, W) -> (n, C, s, s)."""
    n, channels, height, width = images.shape
    narrowed = torch.bmm(images.reshape(n, channels * height, width), columns.mT)
    return torch.matmul(rows.unsqueeze(1), narrowed.view(n, channels, height, -1))


def crop(images: Tensor, boxes: Tensor, flip: Tensor, size: int, interpolation: str) -> Tensor:
    """Cut, resize and flip: images (n, C, H, W) float, boxes (n, 4), flip (n,) 0 or 1 -> (n, C, s, s)."""
    top, left, box_height, box_width = boxes.to(torch.float32).unbind(dim=-1)
    never = torch.zeros_like(top)
    rows = axis_weights(top, box_height, never, images.shape[-2], size, interpolation)
    columns = axis_weights(left, box_width, flip.to(torch.float32), images.shape[-1], size, interpolation)
    return resample(images, rows, columns)


def axis_weights(start: Tensor, extent: Tensor, flip: Tensor, length: int, size: int, interpolation: str) -> Tensor:
    """Weights (n, s, length) that resize an axis' pixels from `start` on to `size`, in reverse where flip is 1."""
    start, extent, flip = (value.view(-1, 1, 1) for value in (start, extent, flip))
    pixels = (
        torch.arange(length, device=start.device, dtype=torch.float32) - start
    )  # (n, 1, length), 0 in the box's corner
    outputs = torch.arange(size, device=start.device, dtype=torch.float32).view(1, -1, 1)
    outputs = torch.lerp(outputs, size - 1 - outputs, flip)
    scale = extent / size
    narrowing = scale.clamp_min(1.0).reciprocal()  # the filter widens when it shrinks, never narrows when it enlarges
    centres = (outputs + 0.5) * scale - 0.5
    distances = ((pixels - centres) * narrowing).abs_()
    weights = (1 - distances).clamp_min_(0.0) if interpolation == "bilinear" else _cubic(distances)
    weights.mul_((pixels >= 0) & (pixels < extent))
    return weights.div_(weights.sum(dim=-1, keepdim=True))


def _cubic(distances: Tensor) -> Tensor:
    """Keys' cubic convolution filter of a distance in pixels."""
    near, far = distances.clamp(max=1), distances.clamp(1, 2)  # both pieces are 0 where the other one begins
    near = ((CUBIC + 2) * near - (CUBIC + 3)) * near.square() + 1
    return near.add_(((far - 5) * far + 8) * far - 4, alpha=CUBIC)


def cut_crops(image: Tensor, uniforms: Tensor, recipe: Recipe, size: int) -> Tensor:
    """Cut both crops from one image, as a worker does: image (C, H, W), uniforms (2, K) -> (2, C, s, s), same dtype.

    The boxes are those that the whole batch's crop would take for the same uniform numbers; the flip comes later.
    """
    height, width = image.shape[-2:]
    crops = [
        functional.interpolate(
            image[None, :, top : top + box_height, left : left + box_width],
            size=(size, size),
            mode=recipe.interpolation,
            antialias=True,
        )
        for top, left, box_height, box_width in crop_boxes(uniforms, height, width, recipe).tolist()
    ]
    return torch.cat(crops).contiguous()
