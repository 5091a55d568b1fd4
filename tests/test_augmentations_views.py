"""Two views of every image: the whole chain against torchvision's, and the promises that users rely on."""

import contextlib
import dataclasses
import logging

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from hf_ssl.augmentations import (
    RECIPES,
    Recipe,
    ViewRecipe,
    apply_views,
    crop_boxes,
    cut_crops,
    draw_crops,
    draw_parameters,
    get_recipe,
    make_views,
)
from hf_ssl.augmentations import views as module
from hf_ssl.errors import UsageError

EVERYTHING = ViewRecipe(jitter=0.7, grey=0.3, blur=0.5, solarize=0.3)
BUSY = Recipe("busy", EVERYTHING, dataclasses.replace(EVERYTHING, crop_scale=(0.3, 0.6), blur=0.9))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(count, channels=3, height=32, width=32):
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator(5))


def by_torchvision(image, box, parameters, row, view, recipe, size):
    """One view of one image, operation by operation, in the order of the papers' code."""
    x = image.to(torch.float32) / 255

    def cut(x):
        mode = InterpolationMode(recipe.interpolation)
        x = reference.resized_crop(x, *box.tolist(), [size, size], interpolation=mode, antialias=True)
        return reference.horizontal_flip(x) if parameters.flip[row, view] else x

    x = x if recipe.crop_last else cut(x)
    if parameters.jitter[row, view]:
        adjust = (
            reference.adjust_brightness,
            reference.adjust_contrast,
            reference.adjust_saturation,
            reference.adjust_hue,
        )
        for operation in parameters.order[row, view].tolist():
            x = adjust[operation](x, parameters.factors[row, view, operation].item())
    x = reference.rgb_to_grayscale(x, num_output_channels=3) if parameters.grey[row, view] else x
    x = cut(x) if recipe.crop_last else x
    if parameters.blur[row, view]:
        kernel, sigma = recipe.kernel_size(size), parameters.sigma[row, view].item()
        x = reference.gaussian_blur(x, [kernel, kernel], [sigma, sigma])
    x = reference.solarize(x, recipe.solarize_threshold) if parameters.solarize[row, view] else x
    return reference.normalize(x, recipe.mean, recipe.std)


@pytest.mark.parametrize(
    ("recipe", "count", "height", "width", "size"),
    [
        (get_recipe("cifar"), 250, 32, 32, 32),
        (get_recipe("tiny_imagenet"), 40, 64, 64, 64),
        (get_recipe("stl10"), 40, 96, 96, 64),
        (get_recipe("abcde"), 60, 48, 30, 32),
        (BUSY, 100, 40, 52, 32),
        (dataclasses.replace(BUSY, crop_last=True, blur_kernel=5), 60, 52, 40, 48),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_chain_equals_torchvisions_given_the_same_parameters(recipe, count, height, width, size):
    images = pixels(count, 3, height, width)
    crops, parameters = draw_crops(recipe, count, generator(1)), draw_parameters(recipe, count, generator(2))
    views = apply_views(images, crops, parameters, recipe, size)
    boxes = crop_boxes(crops, height, width, recipe)
    spread = torch.tensor(recipe.std).view(3, 1, 1)
    for row in range(count):
        for view in range(2):
            expected = by_torchvision(images[row], boxes[row, view], parameters, row, view, recipe, size)
            difference = ((views[row, view] - expected) * spread).abs()
            # A pixel within rounding of the solarising threshold may fall on either side of it.
            off = (difference > 1e-4).float().mean()
            assert off <= (1e-3 if parameters.solarize[row, view] else 0), (row, view, difference.max())


def test_crops_that_a_worker_cut_go_through_the_same_chain():
    """Integer-aligned boxes at the view's own size: the worker's uint8 crop is exact, so both roads must meet."""
    recipe = dataclasses.replace(BUSY, interpolation="bicubic")
    whole = pixels(24, 3, 32, 32)
    parameters = draw_parameters(recipe, 24, generator(3))
    cut = torch.stack((whole, whole), dim=1)
    full = dataclasses.replace(EVERYTHING, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    same = dataclasses.replace(recipe, view_a=full, view_b=full)
    expected = apply_views(whole, draw_crops(same, 24, generator(4)), parameters, same, 32)
    torch.testing.assert_close(apply_views(cut, None, parameters, recipe, 32), expected, rtol=0, atol=1e-4)


def test_a_workers_views_are_the_batchs_up_to_rounding():
    recipe = dataclasses.replace(get_recipe("abcde"), view_b=get_recipe("abe").view_a)
    smooth = torch.nn.functional.avg_pool2d(pixels(8, 3, 104, 134).float(), 5, stride=1).round().to(torch.uint8)
    crops, parameters = draw_crops(recipe, 8, generator(1)), draw_parameters(recipe, 8, generator(2))
    cut = torch.stack([cut_crops(image, own, recipe, 64) for image, own in zip(smooth, crops, strict=True)])
    views, expected = (
        apply_views(cut, None, parameters, recipe, 64),
        apply_views(smooth, crops, parameters, recipe, 64),
    )
    assert (views - expected).abs().mean() < 0.02 and (views - expected).abs().max() < 0.2


@pytest.mark.parametrize("recipe", [*RECIPES, "a", "abcde"])
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (96, 96, 64), (40, 60, 24), (20, 20, 33)])
def test_make_views_gives_float_views_of_every_image(recipe, height, width, size):
    images = pixels(6, 3, height, width)
    before = images.clone()
    views = make_views(images, recipe, size, generator())
    assert views.shape == (6, 2, 3, size, size) and views.dtype == torch.float32 and views.is_contiguous()
    assert views.isfinite().all() and torch.equal(images, before)


def test_views_are_normalised_with_the_recipes_own_statistics():
    plain = ViewRecipe(crop_scale=(1.0, 1.0), flip=0, jitter=0, grey=0)
    recipe = Recipe("plain", plain, plain, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
    images = pixels(4)
    expected = (images / 255 - torch.tensor(recipe.mean).view(3, 1, 1)) / torch.tensor(recipe.std).view(3, 1, 1)
    views = make_views(images, recipe, 32)
    torch.testing.assert_close(views, torch.stack((expected, expected), dim=1), rtol=0, atol=1e-5)


def test_rows_keep_their_order():
    """Flat images stay flat under every operation but solarising, and their brightness tells them apart."""
    levels = torch.linspace(0, 255, 200).round().to(torch.uint8)
    recipe = dataclasses.replace(BUSY, view_a=dataclasses.replace(EVERYTHING, solarize=0, brightness=0))
    recipe = dataclasses.replace(recipe, view_b=recipe.view_a, mean=(0.0,) * 3, std=(1.0,) * 3)
    views = make_views(levels.view(-1, 1, 1, 1).expand(-1, 3, 32, 32), recipe, 32, generator())
    expected = (levels / 255).view(-1, 1, 1, 1, 1).expand_as(views)
    torch.testing.assert_close(views, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("letters", ["a", "d", "abcde"])
def test_copies_of_one_image_all_become_different_views(letters):
    """One draw, or one order of the operations, for a whole batch would repeat views."""
    copies = pixels(1, 3, 160, 160).expand(40, -1, -1, -1)
    recipe = get_recipe(letters)
    always = dataclasses.replace(recipe.view_a, jitter=float("d" in letters))
    recipe = dataclasses.replace(recipe, view_a=always, view_b=always)
    views = make_views(copies, recipe, 32, generator()).flatten(0, 1).flatten(1)
    distances = torch.cdist(views, views).fill_diagonal_(torch.inf)
    assert distances.min() > 0.1


def test_two_halves_of_a_batch_are_the_whole():
    images, recipe = pixels(30, 3, 40, 40), dataclasses.replace(BUSY, crop_last=True)
    crops, parameters = draw_crops(recipe, 30, generator(1)), draw_parameters(recipe, 30, generator(2))
    whole = apply_views(images, crops, parameters, recipe, 32)
    halves = [
        apply_views(images[part], crops[part], parameters.rows(part), recipe, 32)
        for part in (slice(0, 13), slice(13, 30))
    ]
    torch.testing.assert_close(torch.cat(halves), whole, rtol=0, atol=1e-5)


def test_equal_seeds_give_equal_views_and_others_do_not():
    images = pixels(16)
    first, again, other = (make_views(images, "imagenet", 32, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.manual_seed(3)
    drawn = make_views(images, "cifar", 32)
    torch.manual_seed(3)
    assert torch.equal(drawn, make_views(images, "cifar", 32))


def test_views_do_not_depend_on_the_number_of_threads():
    images, threads = pixels(64, 3, 40, 40), torch.get_num_threads()
    try:
        views = []
        for count in (1, 2):
            torch.set_num_threads(count)
            views.append(make_views(images, BUSY, 32, generator()))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(views[0], views[1], rtol=0, atol=1e-6)


def test_pieces_change_nothing(monkeypatch):
    images, whole = pixels(40), make_views(pixels(40), BUSY, 32, generator())
    monkeypatch.setattr(module, "CPU_PIECE", 2 * 3 * 32 * 32)
    torch.testing.assert_close(make_views(images, BUSY, 32, generator()), whole, rtol=0, atol=1e-5)


def test_autocast_does_not_reach_the_views():
    expected = make_views(pixels(8), BUSY, 32, generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = make_views(pixels(8), BUSY, 32, generator())
    assert torch.equal(views, expected)


@pytest.mark.parametrize("recipe", [BUSY, dataclasses.replace(BUSY, crop_last=True, interpolation="bicubic")])
def test_the_device_is_never_asked(recipe, monkeypatch):
    """On the meta device tensors have no values, so reading one, which would make a GPU wait, is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it does not know this device
    views = make_views(pixels(40).to("meta"), recipe, 24, generator())
    assert views.shape == (40, 2, 3, 24, 24) and views.device.type == "meta"


@pytest.mark.parametrize("channels", [1, 4, 12])
def test_other_channel_counts_leave_colour_out_and_say_so(channels, caplog):
    images = pixels(10, channels, 40, 30)
    module._say_without_colour.cache_clear()
    with caplog.at_level(logging.INFO, logger=module.__name__):
        views = [make_views(images, "imagenet", 32, generator()) for _ in range(2)]
    assert views[0].shape == (10, 2, channels, 32, 32) and torch.equal(*views)
    assert [record.getMessage() for record in caplog.records].count(caplog.messages[0]) == 1
    assert f"{channels} channels" in caplog.messages[0]


def test_every_band_is_treated_alike_without_rgb():
    grey = pixels(20, 1)
    one = make_views(grey, "imagenet", 32, generator())
    four = make_views(grey.expand(-1, 4, -1, -1), "imagenet", 32, generator())
    torch.testing.assert_close(four, one.expand_as(four), rtol=0, atol=1e-5)


def test_shares_of_full_scale_are_views_too():
    images = pixels(8)
    expected = make_views(images, "cifar", 32, generator())
    torch.testing.assert_close(make_views(images / 255, "cifar", 32, generator()), expected, rtol=0, atol=1e-4)


def test_a_batch_of_one_row_and_of_none():
    assert make_views(pixels(1), "imagenet", 32, generator()).shape == (1, 2, 3, 32, 32)
    assert make_views(pixels(1)[:0], "cifar", 32, generator()).shape == (0, 2, 3, 32, 32)


@pytest.mark.parametrize(
    ("images", "recipe", "size", "message"),
    [
        (pixels(2), "cifr", 32, "no augmentation 'cifr'.*Did you mean 'cifar'"),
        (pixels(2)[0], "cifar", 32, r"shape \(3, 32, 32\) but must be"),
        (pixels(2).int(), "cifar", 32, "torch.int32 but must be uint8"),
        (pixels(2), "cifar", 0, "views of 0 pixels"),
    ],
)
def test_a_wrong_request_is_told_in_one_sentence(images, recipe, size, message):
    with pytest.raises(UsageError, match=message):
        make_views(images, recipe, size)


def test_cut_crops_of_another_size_are_refused():
    parameters = draw_parameters(get_recipe("cifar"), 2, generator())
    with pytest.raises(UsageError, match="crops of 32 x 32 pixels cannot be views of 48"):
        apply_views(pixels(4).view(2, 2, 3, 32, 32), None, parameters, get_recipe("cifar"), 48)
