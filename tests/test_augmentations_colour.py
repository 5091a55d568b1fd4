"""Colour equals torchvision.transforms.v2 on float tensors, given the same strengths and order, image by image."""

import pytest
import torch
from conftest import golden
from torchvision.transforms.v2 import functional as reference

from hf_ssl.augmentations import colour, draw_parameters, get_recipe
from hf_ssl.augmentations.parameters import HUE

COUNT, SIDE = 500, 24
LEVEL = 1e-4  # of full scale, 0.03 of a grey level
ADJUST = (
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
)


@pytest.fixture(scope="module")
def images():
    """Noise, soft, nearly grey, exactly grey, eight pure colours, and whole levels: (500, 3, 24, 24)."""
    noise = torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    noise[100:200] = torch.nn.functional.avg_pool2d(noise[100:200], 5, stride=1, padding=2)
    noise[200:300] = noise[200:300, :1] + 0.01 * (noise[200:300] - 0.5)
    noise[300:350] = noise[300:350, :1]
    noise[350:450] = noise[350:450].round()
    noise[450:] = (noise[450:] * 255).round() / 255
    return noise.clamp(0, 1)


@pytest.fixture(scope="module")
def drawn():
    """Strengths over torchvision's whole range: the hue turns by up to half a circle."""
    parameters = draw_parameters(get_recipe("cifar"), COUNT // 2, torch.Generator().manual_seed(1)).flat()
    parameters.factors[:, HUE] *= 5
    return parameters


def flat(images):
    return images.flatten(2).clone()


def close(ours, expected):
    torch.testing.assert_close(ours.view_as(expected), expected, rtol=0, atol=LEVEL)


@pytest.mark.parametrize("operation", range(3), ids=("brightness", "contrast", "saturation"))
def test_a_blend_equals_torchvisions_adjustment(images, drawn, operation):
    others = [number for number in range(4) if number != operation]
    order = torch.tensor([operation, *others]).expand(COUNT, 4)
    ours = colour.blend(flat(images), colour.blends(drawn.factors, order, is_rgb=True)[0])
    factors = drawn.factors[:, operation].tolist()
    close(ours, torch.stack([ADJUST[operation](image, factor) for image, factor in zip(images, factors, strict=True)]))


def test_the_hue_shift_equals_torchvisions_by_way_of_hsv(images, drawn):
    turns = drawn.factors[:, HUE]
    expected = [reference.adjust_hue(image, turn) for image, turn in zip(images, turns.tolist(), strict=True)]
    close(colour.shift_hue(flat(images), turns), torch.stack(expected))


@pytest.mark.parametrize("turn", [-0.5, -1 / 3, -1 / 6, 0.0, 1 / 6, 1 / 3, 0.5])
def test_the_hue_shift_is_exact_at_the_corners_of_the_colour_circle(turn):
    corners = torch.cartesian_prod(*[torch.tensor((0.0, 0.5, 1.0))] * 3).T.reshape(1, 3, 27, 1)
    expected = reference.adjust_hue(corners[0], turn)
    close(colour.shift_hue(flat(corners), torch.tensor([turn])), expected)


def test_jitter_follows_every_images_own_order(images, drawn):
    places = (drawn.order == HUE).int().argmax(dim=-1)
    ours = torch.empty_like(images)
    for place in range(4):
        chosen = places == place
        plans = colour.blends(drawn.factors[chosen], drawn.order[chosen], is_rgb=True)
        x = colour.jitter(flat(images[chosen]), plans, drawn.factors[chosen, HUE], place)
        ours[chosen] = x.view(-1, 3, SIDE, SIDE)
    expected = []
    for image, factors, order in zip(images, drawn.factors.tolist(), drawn.order.tolist(), strict=True):
        for operation in order:
            image = ADJUST[operation](image, factors[operation])
        expected.append(image)
    close(ours, torch.stack(expected))


def test_without_rgb_jitter_is_brightness_and_contrast(drawn):
    images = torch.rand(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    plans = colour.blends(drawn.factors, drawn.order, is_rgb=False)
    ours = colour.jitter(flat(images), plans, None, 0)
    expected = []
    for image, factors, order in zip(images, drawn.factors.tolist(), drawn.order.tolist(), strict=True):
        for operation in order:
            image = ADJUST[operation](
                image, factors[operation]
            )  # torchvision leaves grey images' hue and saturation alone
        expected.append(image)
    close(ours, torch.stack(expected))


def test_grey_equals_torchvisions(images):
    close(colour.grey(flat(images)).expand(-1, 3, -1), reference.rgb_to_grayscale(images, num_output_channels=3))


def test_solarize_equals_torchvisions(images):
    close(colour.solarize(flat(images), 128 / 255), reference.solarize(images, 128 / 255))


def test_grey_and_solarize_equal_pillows_within_a_level():
    recorded = golden("transforms")
    image = recorded["img"].permute(2, 0, 1)[None] / 255
    for ours, name in (
        (colour.grey(flat(image)).expand(-1, 3, -1), "gray3"),
        (colour.solarize(flat(image), 128 / 255), "solarize128"),
    ):
        expected = recorded[name].permute(2, 0, 1)[None].float()
        torch.testing.assert_close(ours.view_as(expected) * 255, expected, rtol=0, atol=1.0)


def test_normalize_equals_the_recorded_one():
    recorded = golden("transforms")
    image = recorded["img"].permute(2, 0, 1)[None] / 255
    ours = colour.normalize(image, *get_recipe("cifar").statistics(3))
    torch.testing.assert_close(ours[0], recorded["norm_cifar"], rtol=0, atol=1e-5)


def test_the_colour_chain_is_one_graph_for_a_compiler(images, drawn):
    """No part of it depends on a value, so torch.compile takes it whole, at any number of views."""
    compiled = torch.compile(colour.jitter, fullgraph=True, dynamic=True, backend="eager")
    for count in (5, 9):
        plans = colour.blends(drawn.factors[:count], drawn.order[:count], is_rgb=True)
        arguments = (plans, drawn.factors[:count, HUE], 1)
        close(compiled(flat(images[:count]), *arguments), colour.jitter(flat(images[:count]), *arguments))
