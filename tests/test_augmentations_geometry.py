"""Crops by matrix products are torchvision's antialiased resized crops, from inside the box alone."""

import dataclasses

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from hf_ssl.augmentations import crop_boxes, cut_crops, draw_crops, get_recipe
from hf_ssl.augmentations.geometry import crop

LEVEL = 1e-4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count, channels, height, width):
    return torch.rand(count, channels, height, width, generator=generator(7))


def recipe_with(interpolation):
    return dataclasses.replace(get_recipe("cifar"), interpolation=interpolation)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 32), (64, 96, 64), (96, 96, 64), (20, 30, 48), (90, 70, 16), (5, 7, 9)]
)
def test_a_crop_equals_torchvisions_resized_crop(height, width, size, interpolation):
    count = 500 if size == 32 else 60
    images = noise(count, 3, height, width)
    boxes = crop_boxes(
        draw_crops(recipe_with(interpolation), count, generator()), height, width, recipe_with(interpolation)
    )[:, 0]
    flip = torch.arange(count) % 2
    ours = crop(images, boxes, flip, size, interpolation)
    mode = InterpolationMode(interpolation)
    for image, box, flipped, view in zip(images, boxes.tolist(), flip.tolist(), ours, strict=True):
        expected = reference.resized_crop(image, *box, [size, size], interpolation=mode, antialias=True)
        expected = reference.horizontal_flip(expected) if flipped else expected
        torch.testing.assert_close(view, expected, rtol=0, atol=LEVEL)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_nothing_outside_the_box_is_sampled(interpolation):
    images = torch.full((1, 1, 40, 50), 1e6)
    images[..., 7:19, 11:31] = 0.5
    view = crop(images, torch.tensor([[7, 11, 12, 20]]), torch.zeros(1), 32, interpolation)
    torch.testing.assert_close(view, torch.full_like(view, 0.5))


def test_the_whole_image_at_its_own_size_is_itself():
    images = noise(3, 3, 32, 32)
    view = crop(images, torch.tensor([[0, 0, 32, 32]]).expand(3, 4), torch.tensor([0, 1, 0]), 32, "bicubic")
    torch.testing.assert_close(view, torch.stack((images[0], images[1].flip(-1), images[2])), rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_worker_cuts_the_boxes_that_the_batch_would(interpolation):
    """The same uniform numbers give the same views, up to rounding to uint8, whoever turns them into boxes."""
    recipe = recipe_with(interpolation)
    images = torch.nn.functional.avg_pool2d(noise(6, 3, 124, 94) * 255, 5, stride=1).round().to(torch.uint8)
    uniforms = draw_crops(recipe, 6, generator(2))
    boxes = crop_boxes(uniforms, 120, 90, recipe)
    for view in range(2):
        batched = crop(images.float(), boxes[:, view], torch.zeros(6), 48, interpolation).clamp(0, 255)
        cut = torch.stack(
            [cut_crops(image, one, recipe, 48)[view] for image, one in zip(images, uniforms, strict=True)]
        )
        assert cut.dtype == torch.uint8 and cut.shape == (6, 3, 48, 48)
        torch.testing.assert_close(cut.float(), batched, rtol=0, atol=1.5)  # uint8 is rounded after each axis


def test_a_workers_crop_equals_torchvisions_on_uint8():
    recipe = get_recipe("imagenet")
    image = (noise(1, 3, 90, 130)[0] * 255).to(torch.uint8)
    uniforms = draw_crops(recipe, 1, generator(3))[0]
    for box, view in zip(
        crop_boxes(uniforms, 90, 130, recipe).tolist(), cut_crops(image, uniforms, recipe, 64), strict=True
    ):
        expected = reference.resized_crop(
            image, *box, [64, 64], interpolation=InterpolationMode.BICUBIC, antialias=True
        )
        assert torch.equal(view, expected)


def test_a_worker_keeps_other_dtypes_and_channels():
    image = noise(1, 5, 60, 60)[0]
    views = cut_crops(image, draw_crops(get_recipe("cifar"), 1, generator())[0], get_recipe("cifar"), 32)
    assert views.dtype == torch.float32 and views.shape == (2, 5, 32, 32) and views.is_contiguous()
