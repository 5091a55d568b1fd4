"""The batched blur is torchvision's Gaussian blur, each view with its own sigma."""

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from hf_ssl.augmentations import get_recipe
from hf_ssl.augmentations.blur import blur


@pytest.mark.parametrize(("count", "side"), [(500, 32), (40, 64), (6, 224)])
def test_blur_equals_torchvisions_at_each_views_sigma(count, side):
    images = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    sigma = torch.empty(count).uniform_(0.1, 2.0, generator=torch.Generator().manual_seed(1))
    kernel = get_recipe("imagenet").kernel_size(side)
    expected = [
        reference.gaussian_blur(image, [kernel, kernel], [one, one])
        for image, one in zip(images, sigma.tolist(), strict=True)
    ]
    torch.testing.assert_close(blur(images, sigma, kernel), torch.stack(expected), rtol=0, atol=1e-4)


def test_a_window_wider_than_a_tiny_view_is_cut_to_what_can_be_reflected():
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.7, 1.5])
    expected = torch.stack(
        [reference.gaussian_blur(image, [7, 7], [one, one]) for image, one in zip(images, sigma.tolist(), strict=True)]
    )
    torch.testing.assert_close(blur(images, sigma, 23), expected)


def test_a_flat_view_stays_as_it_is():
    view = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(blur(view.clone(), torch.tensor([2.0]), 5), view)
