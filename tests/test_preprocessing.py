"""The batched preprocessing against the image processor that is published with every model."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.timm_wrapper.image_processing_timm_wrapper import TimmWrapperImageProcessor

from hf_ssl.preprocessing import Preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(224, 224), (500, 375), (97, 301), (640, 33), (160, 182), (12, 12)]  # width, height


def pictures(sizes, seed=0, mode="RGB"):
    """JPEGs of smooth shapes under noise and hard edges, where interpolation overshoots."""
    random = np.random.default_rng(seed)
    made = []
    for width, height in sizes:
        coarse = Image.fromarray(random.integers(0, 256, (7, 5, 3), dtype=np.uint8)).resize((width, height))
        pixels = np.asarray(coarse).astype(int) + random.integers(-20, 21, (height, width, 3))
        pixels[: height // 3, : width // 2] = 255 * (np.arange(width // 2) % 2)[:, None]
        encoded = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode).save(encoded, "JPEG", quality=90)
        made.append(Image.open(encoded))
    return made


def as_tensors(images):
    arrays = [np.array(image) for image in images]
    return [torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1) for array in arrays]


def grey_levels(ours, theirs, std):
    return (ours - theirs).abs() * torch.tensor(std).view(-1, 1, 1) * 255


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("size", "crop_pct"), [(224, 0.875), (96, 1.0), (32, 1.0), (160, 0.95)])
def test_jpegs_of_mixed_sizes_come_out_as_from_the_published_processor(size, crop_pct, interpolation):
    preprocess = Preprocess(size, MEAN, STD, crop_pct, interpolation)
    images = pictures(SIZES)
    theirs = TimmWrapperImageProcessor(preprocess.as_pretrained_cfg())(images)["pixel_values"]
    difference = grey_levels(preprocess(as_tensors(images)), theirs, STD)
    assert difference.max() < 0.01  # not one level, which is all that is promised


def test_images_of_the_training_size_are_only_normalised():
    preprocess = Preprocess.for_training_size(32, MEAN, STD)
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    expected = (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.equal(preprocess(images), expected)
    theirs = TimmWrapperImageProcessor(preprocess.as_pretrained_cfg())
    one = Image.fromarray(images[2].permute(1, 2, 0).numpy())
    torch.testing.assert_close(preprocess(images)[2:3], theirs([one])["pixel_values"], rtol=0, atol=1e-6)


def test_one_channel_images_keep_one_channel():
    preprocess = Preprocess(24, (0.5,), (0.25,))
    images = pictures([(40, 30), (24, 24)], mode="L")
    theirs = TimmWrapperImageProcessor(preprocess.as_pretrained_cfg())(images)["pixel_values"]
    assert grey_levels(preprocess(as_tensors(images)), theirs, (0.25,)).max() < 0.01


def test_a_list_keeps_its_order_and_equals_images_taken_one_by_one():
    preprocess = Preprocess.for_training_size(20, MEAN, STD)
    images = as_tensors(pictures([(30, 40), (25, 25), (22, 60), (30, 40), (25, 25), (22, 60)]))
    together = preprocess(images)
    assert torch.equal(together, torch.cat([preprocess(image[None]) for image in images]))
    assert together.dtype == torch.float32
    assert together.is_contiguous()


def test_small_training_sizes_use_the_whole_image_and_large_ones_the_papers_crop():
    assert Preprocess.for_training_size(64, MEAN, STD).resized_side == 64
    assert Preprocess.for_training_size(224, MEAN, STD).resized_side == 256


def test_timms_description_goes_there_and_back():
    preprocess = Preprocess(64, MEAN, STD, 0.9, "bilinear")
    assert Preprocess.from_pretrained_cfg(preprocess.as_pretrained_cfg()) == preprocess


@pytest.mark.parametrize("change", [{"crop_mode": "squash"}, {"input_size": (3, 32, 64)}, {"interpolation": "random"}])
def test_what_is_not_a_square_centre_crop_is_refused(change):
    described = {"input_size": (3, 32, 32), "mean": MEAN, "std": STD, **change}
    with pytest.raises(ValueError, match=r"centre crops|interpolation"):
        Preprocess.from_pretrained_cfg(described)
