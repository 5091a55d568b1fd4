"""Two labelled data sets that need no download: `photos` for the demo, `digits` for quick checks.

photos: 32 x 32 colour patches cut from ten photographs and micrographs that the scikit-image wheel carries; the label
says which photograph. The left 70 % of each photograph are training data, the right 30 % test data, so no pixel is in
both; patches with less contrast than 8 grey levels are left out. It shows that the machinery works: nearest neighbours
on raw pixels get about half of the patches right, good features far more. It is no benchmark.

digits: the 8 x 8 grey digits of scikit-learn, every fifth for test. Raw pixels already solve them.
"""

import functools
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from hf_ssl.errors import HfSslError

PHOTOGRAPHS = (
    "astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "hubble_deep_field", "ihc", "motorcycle_left",
    "retina",
)  # fmt: skip
PATCH = 32  # pixels
STRIDE = 4  # pixels between candidate patches
CONTRAST = 8.0  # least standard deviation of a patch, grey levels
TRAIN_SHARE = 0.7  # of a photograph's width
PATCHES = {"train": 700, "test": 200}  # per photograph


@functools.cache
def photos() -> datasets.DatasetDict:
    """Patches of ten photographs: 7,000 train and 2,000 test rows, columns image (32 x 32 RGB) and label.

    Raises:
        HfSslError: if scikit-image, which carries the photographs, is not installed.

    """
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise HfSslError(
            "the data set 'photos' is cut from photographs that scikit-image carries, which is not installed: "
            'pip install "hf_ssl[demo]".'
        )
    patches: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    for label, name in enumerate(PHOTOGRAPHS):
        path = next(Path(package.origin).parent.joinpath("data").glob(f"{name}.*"))
        with Image.open(path) as photograph:
            pixels = np.asarray(photograph.convert("RGB"))
        edge = round(TRAIN_SHARE * pixels.shape[1])
        for split, region in (("train", pixels[:, :edge]), ("test", pixels[:, edge:])):
            chosen = cut_patches(region, PATCHES[split])
            patches[split] += chosen
            labels[split] += [label] * len(chosen)
    return _labelled(patches, labels, list(PHOTOGRAPHS))


def cut_patches(region: np.ndarray, count: int) -> list[np.ndarray]:
    """Return up to `count` patches with enough contrast, evenly spread over a region (H, W, 3) of a photograph."""
    values = region.astype(np.int64)
    number = 3 * PATCH**2
    variance = _window_sums(values**2) / number - (_window_sums(values) / number) ** 2
    rows, columns = np.nonzero(variance >= CONTRAST**2)
    picks = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    corners = zip(rows[picks] * STRIDE, columns[picks] * STRIDE, strict=True)
    return [region[top : top + PATCH, left : left + PATCH] for top, left in corners]


def _window_sums(values: np.ndarray) -> np.ndarray:
    """Sum of (H, W, 3) over every candidate patch, by differences of running sums."""
    totals = np.pad(values.sum(axis=2), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = totals[PATCH:, PATCH:] - totals[:-PATCH, PATCH:] - totals[PATCH:, :-PATCH] + totals[:-PATCH, :-PATCH]
    return sums[::STRIDE, ::STRIDE]


@functools.cache
def digits() -> datasets.DatasetDict:
    """Handwritten digits of scikit-learn: 1,438 train and 359 test rows, columns image (8 x 8 grey) and label."""
    from sklearn.datasets import load_digits  # a second of import time that only this data set pays

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    held_out = np.arange(len(images)) % 5 == 4
    rows = {"train": np.flatnonzero(~held_out), "test": np.flatnonzero(held_out)}
    pictures = {split: [images[row] for row in chosen] for split, chosen in rows.items()}
    labels = {split: bunch.target[chosen].tolist() for split, chosen in rows.items()}
    return _labelled(pictures, labels, [str(digit) for digit in range(10)])


EMBEDDED: dict[str, Callable[[], datasets.DatasetDict]] = {"photos": photos, "digits": digits}


def _labelled(
    pictures: dict[str, list[np.ndarray]], labels: dict[str, list[int]], names: list[str]
) -> datasets.DatasetDict:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {"image": [{"bytes": _png(p), "path": None} for p in pictures[split]], "label": labels[split]},
                features=features,
                split=datasets.NamedSplit(split),
            )
            for split in pictures
        }
    )


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
