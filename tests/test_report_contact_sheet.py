"""The contact sheet shows the views as they are: own colours, own places."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_ssl.augmentations import Recipe, ViewRecipe, make_views
from hf_ssl.report.contact_sheet import contact_sheet

PLAIN = ViewRecipe(crop_scale=(1.0, 1.0), flip=0, jitter=0, grey=0)
MIRRORED = ViewRecipe(crop_scale=(1.0, 1.0), flip=1, jitter=0, grey=0)


def sheet_of(images, size, tmp_path, **options):
    recipe = Recipe("plain", PLAIN, MIRRORED, mean=(0.3, 0.4, 0.5), std=(0.2, 0.25, 0.3))
    contact_sheet(make_views(images, recipe, size), recipe, tmp_path / "new" / "views.png", **options)
    return np.asarray(Image.open(tmp_path / "new" / "views.png")).astype(int)


def find(sheet, picture):
    """Rows and columns at which `picture` stands in the sheet."""
    height, width = picture.shape[:2]
    corners = sheet[: len(sheet) - height + 1, : sheet.shape[1] - width + 1]
    likely = np.argwhere(np.abs(corners - picture[0, 0]).max(axis=-1) <= 1)
    return [
        (int(top), int(left))
        for top, left in likely
        if np.abs(sheet[top : top + height, left : left + width] - picture).max() <= 1
    ]


def test_a_pair_stands_in_one_column_view_a_above_view_b(tmp_path):
    images = torch.randint(0, 256, (3, 3, 70, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sheet = sheet_of(images, 70, tmp_path)
    lefts = []
    for image in images.permute(0, 2, 3, 1).numpy().astype(int):
        ((top_a, left_a),), ((top_b, left_b),) = find(sheet, image), find(sheet, image[:, ::-1])
        assert left_a == left_b and top_b >= top_a + 70
        lefts.append(left_a)
    assert lefts == sorted(lefts)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts_are_shown_as_grey(channels, tmp_path):
    images = torch.randint(0, 256, (1, channels, 64, 64), dtype=torch.uint8)
    mean = images.double().mean(dim=1).round().permute(1, 2, 0).expand(-1, -1, 3).numpy().astype(int)
    assert len(find(sheet_of(images, 64, tmp_path), mean)) == 1


def test_small_views_are_enlarged_and_long_batches_cut(tmp_path):
    images = torch.randint(0, 256, (100, 3, 32, 32), dtype=torch.uint8)
    sheet = sheet_of(images, 32, tmp_path, columns=5)
    assert 5 * 64 <= sheet.shape[1] < 6 * 64 and 8 * 64 <= sheet.shape[0] < 9 * 64
    enlarged = images[19].permute(1, 2, 0).numpy().astype(int).repeat(2, axis=0).repeat(2, axis=1)
    assert len(find(sheet, enlarged)) == 1
    assert not find(sheet, images[20].permute(1, 2, 0).numpy().astype(int).repeat(2, axis=0).repeat(2, axis=1))
