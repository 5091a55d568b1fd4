"""The pipelines that are timed make the same kind of views, and every peer has a row whether it is there or not."""

import pytest
import torch

from hf_ssl.augmentations import make_views
from hf_ssl.benchmarks import views


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(views, "BATCH", 4)
    monkeypatch.setattr(views, "installed", lambda package: False)


def test_the_pil_pipeline_makes_views_like_ours():
    blocks = torch.randint(0, 256, (300, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    images = blocks.repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2).to(torch.uint8)
    torch.manual_seed(0)
    theirs = torch.stack(list(views.torchvision_on_pil()(images)), dim=1)
    ours = make_views(images, views.RECIPE, views.SIZE, torch.Generator().manual_seed(0))
    assert theirs.shape == ours.shape and theirs.dtype == ours.dtype
    for reading in (torch.mean, torch.std):
        expected, found = reading(theirs, dim=(0, 1, 3, 4)), reading(ours, dim=(0, 1, 3, 4))
        torch.testing.assert_close(found, expected, rtol=0, atol=0.1)
    colourless = [(one.std(dim=2).amax(dim=(-1, -2)) < 0.3).float().mean().item() for one in (theirs, ours)]
    assert colourless[0] == pytest.approx(colourless[1], abs=0.06)


def test_rows_have_ratios_and_the_bars_they_are_held_to(small):
    first, *rest = views.run(rounds=1)
    assert first["baseline"] == "torchvision on PIL" and first["bar"] == 4.5
    assert first["ratio_cpu"] > 0 and first["images_per_second"] == pytest.approx(4000 / first["milliseconds"])
    assert [row["baseline"] for row in rest] == ["lightly", "albumentations", "kornia"]
    assert all(row["ratio_cpu"] is None and row["bar"] == 1.3 for row in rest)
