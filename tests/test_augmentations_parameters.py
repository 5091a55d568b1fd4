"""The random numbers have torchvision's distributions, are independent, and do not depend on who takes them."""

import dataclasses
import itertools

import pytest
import torch
from scipy import stats
from torchvision.transforms import ColorJitter, GaussianBlur, RandomResizedCrop

from hf_ssl.augmentations import Recipe, ViewRecipe, crop_boxes, draw_crops, draw_parameters, get_recipe

DRAWS = 100_000
VIEW = ViewRecipe(flip=0.5, jitter=0.8, grey=0.2, blur=0.1, solarize=0.3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def symmetric(view):
    return Recipe("test", view, view)


def boxes_of(recipe, count, height, width, seed=0):
    return crop_boxes(draw_crops(recipe, count, generator(seed)), height, width, recipe)


@pytest.fixture(scope="module")
def drawn():
    return draw_parameters(symmetric(VIEW), DRAWS // 2, generator()).flat()


@pytest.mark.parametrize(("height", "width", "lowest"), [(375, 500, 0.08), (32, 32, 0.08), (96, 96, 0.2)])
def test_boxes_have_the_distribution_of_torchvisions_random_resized_crop(height, width, lowest):
    torch.manual_seed(1)
    image = torch.empty(1, height, width)
    reference = torch.tensor(
        [RandomResizedCrop.get_params(image, [lowest, 1.0], [3 / 4, 4 / 3]) for _ in range(DRAWS)]
    )
    ours = boxes_of(symmetric(ViewRecipe(crop_scale=(lowest, 1.0))), DRAWS // 2, height, width).flatten(0, 1)

    def readings(boxes):
        top, left, box_height, box_width = boxes.double().unbind(1)
        return {
            "top": top,
            "left": left,
            "height": box_height,
            "width": box_width,
            "area": box_height * box_width,
            "ratio": box_width / box_height,
            "room above": top / (height - box_height + 1),
            "room left": left / (width - box_width + 1),
        }

    expected = readings(reference)
    for name, values in readings(ours).items():
        assert stats.ks_2samp(values.numpy(), expected[name].numpy()).pvalue > 0.01, name


def test_each_view_has_its_own_crop_scale():
    recipe = Recipe("test", ViewRecipe(crop_scale=(0.9, 1.0)), ViewRecipe(crop_scale=(0.08, 0.1)))
    areas = boxes_of(recipe, 500, 200, 200)[..., 2:].prod(dim=-1) / 200**2
    assert areas[:, 0].min() > 0.85 and areas[:, 1].max() < 0.12


@pytest.mark.parametrize(("height", "width"), [(10, 200), (200, 10), (30, 40), (33, 500)])
def test_where_no_try_fits_the_box_is_torchvisions_central_one(height, width):
    view = ViewRecipe(crop_scale=(1.0, 1.0), crop_ratio=(1.05, 1.1))
    expected = RandomResizedCrop.get_params(torch.empty(1, height, width), [1.0, 1.0], [1.05, 1.1])
    boxes = boxes_of(symmetric(view), 50, height, width)
    assert (boxes == torch.tensor(expected)).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (32, 32), (40, 700)])
def test_boxes_lie_inside_the_image(height, width):
    boxes = boxes_of(get_recipe("cifar"), 2000, height, width)
    top, left, box_height, box_width = boxes.unbind(-1)
    assert boxes.dtype == torch.int64 and boxes.shape == (2000, 2, 4)
    assert (top >= 0).all() and (left >= 0).all() and (box_height > 0).all() and (box_width > 0).all()
    assert (top + box_height <= height).all() and (left + box_width <= width).all()


def test_strengths_and_orders_have_the_distribution_of_torchvisions_colour_jitter(drawn):
    torch.manual_seed(1)
    reference = [ColorJitter.get_params((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1)) for _ in range(DRAWS)]
    for number, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        expected = [one[1 + number] for one in reference]
        assert stats.ks_2samp(drawn.factors[:, number].numpy(), expected).pvalue > 0.01, name


def test_all_orders_are_equally_likely(drawn):
    counts = {order: 0 for order in itertools.permutations(range(4))}
    for order in map(tuple, drawn.order.tolist()):
        counts[order] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_sigma_has_the_distribution_of_torchvisions_gaussian_blur(drawn):
    torch.manual_seed(1)
    expected = [GaussianBlur.get_params(0.1, 2.0) for _ in range(DRAWS)]
    assert stats.ks_2samp(drawn.sigma.numpy(), expected).pvalue > 0.01


@pytest.mark.parametrize("name", ["flip", "jitter", "grey", "blur", "solarize"])
def test_operations_happen_as_often_as_the_recipe_says(drawn, name):
    happened, probability = getattr(drawn, name), getattr(VIEW, name)
    assert stats.binomtest(int(happened.sum()), DRAWS, probability).pvalue > 0.01


def test_probabilities_of_zero_and_one_are_never_and_always():
    drawn = draw_parameters(get_recipe("imagenet"), 2000, generator())
    assert drawn.blur[:, 0].all() and not drawn.solarize[:, 0].any()
    assert 0 < drawn.blur[:, 1].sum() < 2000 and 0 < drawn.solarize[:, 1].sum() < 2000


def test_a_strength_above_one_never_turns_negative():
    drawn = draw_parameters(symmetric(ViewRecipe(brightness=3.0)), 2000, generator())
    assert drawn.factors[..., 0].min() >= 0 and drawn.factors[..., 0].max() > 3.9


def test_operations_views_and_neighbouring_images_are_drawn_independently():
    recipe, count, own = symmetric(dataclasses.replace(VIEW, blur=0.5, grey=0.5)), 20_000, generator()
    crops, drawn = draw_crops(recipe, count, own), draw_parameters(recipe, count, own)
    masks = [drawn.flip, drawn.jitter, drawn.grey, drawn.blur, drawn.solarize, drawn.sigma, drawn.order[..., 0]]
    columns = torch.cat([*masks, drawn.factors.flatten(1), crops[..., ::7].flatten(1)], dim=1).double()
    pairs = torch.cat((columns[:-1], columns[1:]), dim=1)  # beside the next image's
    assert torch.corrcoef(pairs.T).fill_diagonal_(0).abs().max() < 0.04


def test_a_slice_of_the_batchs_draws_is_what_a_process_with_these_rows_uses():
    drawn = draw_parameters(get_recipe("imagenet"), 12, generator())
    crops = draw_crops(get_recipe("imagenet"), 12, generator())
    part = drawn.rows(slice(4, 8))
    assert (len(drawn), len(part)) == (12, 4)
    for field in dataclasses.fields(drawn):
        assert torch.equal(getattr(part, field.name), getattr(drawn, field.name)[4:8])
    boxes = crop_boxes(crops, 50, 60, get_recipe("imagenet"))
    assert torch.equal(crop_boxes(crops[4:8], 50, 60, get_recipe("imagenet")), boxes[4:8])
    assert torch.equal(crop_boxes(crops[5], 50, 60, get_recipe("imagenet")), boxes[5])


def test_flat_puts_view_a_before_view_b_of_each_image():
    drawn = draw_parameters(get_recipe("imagenet"), 5, generator())
    flat = drawn.flat()
    assert torch.equal(flat.factors[0::2], drawn.factors[:, 0]) and torch.equal(flat.flip[1::2], drawn.flip[:, 1])


def test_equal_seeds_give_equal_draws_whatever_the_recipe_asks():
    plain, strong = (draw_parameters(symmetric(ViewRecipe(blur=blur)), 64, generator(3)) for blur in (0.0, 1.0))
    other = draw_parameters(symmetric(ViewRecipe()), 64, generator(4))
    assert torch.equal(plain.factors, strong.factors) and torch.equal(plain.flip, strong.flip)
    assert not torch.equal(plain.factors, other.factors)
