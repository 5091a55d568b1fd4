"""The data sets that need no download are what their descriptions say."""

import subprocess
import sys

import numpy as np
import pytest

from hf_ssl.data import decode, open_source
from hf_ssl.data.embedded import EMBEDDED, PHOTOGRAPHS, cut_patches, photos
from hf_ssl.errors import HfSslError


@pytest.fixture(scope="module")
def pixels():
    sources = {split: open_source("photos", split=split) for split in ("train", "test")}
    return {
        split: (np.stack([decode(value).numpy() for value in source.images(range(len(source)))]), source.labels())
        for split, source in sources.items()
    }


def test_photos_have_about_700_train_and_200_test_patches_of_each_photograph(pixels):
    for split, expected in (("train", 700), ("test", 200)):
        images, labels = pixels[split]
        assert images.shape[1:] == (3, 32, 32)
        counts = np.bincount(labels.numpy(), minlength=len(PHOTOGRAPHS))
        assert (abs(counts - expected) <= expected // 10).all()


def test_photos_have_contrast(pixels):
    for images, _ in pixels.values():
        assert images.reshape(len(images), -1).std(axis=1).min() >= 8


def test_no_test_patch_shares_pixels_with_training(pixels):
    """Any row of 8 pixels that both splits show would do; photographs of real scenes do not repeat one by chance."""

    def strips(images):
        middle = images[:, :, 16]  # (n, 3, 32), one line through each patch
        windows = np.lib.stride_tricks.sliding_window_view(middle, 8, axis=-1)
        windows = windows.transpose(0, 2, 1, 3).reshape(-1, 24)
        return {window.tobytes() for window in windows[windows.std(axis=1) > 12]}

    assert not strips(pixels["train"][0]) & strips(pixels["test"][0])


def test_patches_come_from_inside_the_region_and_are_spread_over_it():
    region = np.indices((60, 90)).sum(0)[..., None].repeat(3, -1).astype(np.uint8)
    region[:, :, 0] = np.arange(60)[:, None] * 4
    region[:, :, 1] = np.arange(90)[None] * 2
    corners = [(patch[0, 0, 0] // 4, patch[0, 0, 1] // 2) for patch in cut_patches(region, 20)]
    assert len(set(corners)) == 20
    tops, lefts = zip(*corners, strict=True)
    assert min(tops) == 0 and max(tops) == 28 and max(lefts) - min(lefts) >= 50


def test_flat_regions_give_nothing():
    assert cut_patches(np.full((64, 64, 3), 77, np.uint8), 5) == []


def test_photos_are_the_same_every_time(pixels):
    photos.cache_clear()
    source = open_source("photos", split="test")
    again = np.stack([decode(value).numpy() for value in source.images(range(0, len(source), 7))])
    np.testing.assert_array_equal(again, pixels["test"][0][::7])


def test_raw_pixels_do_not_solve_photos_and_do_solve_digits(pixels):
    def accuracy(train, labels, test, truth):
        train, test = (a.reshape(len(a), -1).astype(np.float32) for a in (train, test))
        mean = train.mean(0)
        train, test = train - mean, test - mean
        train, test = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (train, test))
        nearest = np.argpartition(-(test @ train.T), 20, axis=1)[:, :20]
        votes = np.stack([np.bincount(row, minlength=10) for row in np.asarray(labels)[nearest]])
        return (votes.argmax(1) == np.asarray(truth)).mean()

    assert 0.35 < accuracy(*pixels["train"], *pixels["test"]) < 0.6
    pairs = []
    for split in ("train", "test"):
        source = open_source("digits", split=split)
        pairs += [np.stack([decode(v, 1).numpy() for v in source.images(range(len(source)))]), source.labels()]
    assert len(pairs[0]) == 1438 and len(pairs[2]) == 359 and pairs[0].shape[1:] == (1, 8, 8)
    assert pairs[0].max() == 255
    assert accuracy(*pairs) > 0.95


def test_without_scikit_image_one_sentence_says_how_to_get_it(monkeypatch):
    photos.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HfSslError, match=r'pip install "hf_ssl\[demo\]"'):
        open_source("photos")


def test_the_names_of_embedded_sets():
    assert sorted(EMBEDDED) == ["digits", "photos"]


def test_importing_the_data_rooms_does_not_pay_for_scikit_learn():
    code = "import sys, hf_ssl.data.embedded; sys.exit('sklearn.datasets' in sys.modules or 'skimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
