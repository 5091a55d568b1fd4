"""Two 32 px views of 256 images on one thread: ours against the papers' PIL pipeline and against peers.

Every pipeline makes the `cifar` recipe's views from the same uint8 images in memory and returns two normalised float
batches. Peers that are not installed are rows without times.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from hf_ssl.augmentations import get_recipe, make_views
from hf_ssl.benchmarks.clock import compare, threads
from hf_ssl.benchmarks.rows import Row, absent_row, installed, time_row

BATCH, SIZE = 256, 32
PIL_BAR, PEER_BAR = 4.5, 1.3  # how many times the images a second of torchvision on PIL, and of any peer

RECIPE = get_recipe("cifar")
VIEW = RECIPE.view_a
STRENGTHS = (VIEW.brightness, VIEW.contrast, VIEW.saturation, VIEW.hue)
Pipeline = Callable[[Tensor], object]


def run(rounds: int = 5) -> list[Row]:
    """Rows of ratios baseline / hf_ssl (above 1 is better), each with the bar it is held to."""
    images = torch.randint(
        0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    baselines = {"torchvision on PIL": torchvision_on_pil, **{name: PEERS[name] for name in PEERS if installed(name)}}
    name = f"views cifar {SIZE} px B {BATCH}"
    rows = []
    with threads(1):
        for baseline, build in baselines.items():
            pipeline, generator = build(), torch.Generator().manual_seed(0)
            variants = {
                "hf_ssl": lambda: make_views(images, RECIPE, SIZE, generator),  # noqa: B023, called in this round only
                baseline: lambda: pipeline(images),  # noqa: B023
            }
            bar = PEER_BAR if baseline in PEERS else PIL_BAR
            timing = compare(variants, baseline, rounds)["hf_ssl"]
            row = time_row(name, baseline, timing, bar)
            rows.append(row | {"images_per_second": 1000 * BATCH / timing.milliseconds})
    return rows + [absent_row(name, peer, PEER_BAR) for peer in PEERS if peer not in baselines]


def torchvision_on_pil() -> Pipeline:
    """The papers' pipeline: one PIL image after another, twice."""
    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE, scale=VIEW.crop_scale, ratio=VIEW.crop_ratio),
            transforms.RandomHorizontalFlip(VIEW.flip),
            transforms.RandomApply([transforms.ColorJitter(*STRENGTHS)], VIEW.jitter),
            transforms.RandomGrayscale(VIEW.grey),
            transforms.ToTensor(),
            transforms.Normalize(RECIPE.mean, RECIPE.std),
        ]
    )
    return one_by_one(lambda pixels: view(Image.fromarray(pixels)))


def lightly_on_pil() -> Pipeline:
    """Lightly's SimCLR views with this recipe's numbers."""
    view = importlib.import_module("lightly.transforms.simclr_transform").SimCLRViewTransform(
        input_size=SIZE,
        cj_prob=VIEW.jitter,
        cj_strength=1.0,
        cj_bright=VIEW.brightness,
        cj_contrast=VIEW.contrast,
        cj_sat=VIEW.saturation,
        cj_hue=VIEW.hue,
        min_scale=VIEW.crop_scale[0],
        random_gray_scale=VIEW.grey,
        gaussian_blur=0.0,
        hf_prob=VIEW.flip,
        normalize={"mean": RECIPE.mean, "std": RECIPE.std},
    )
    return one_by_one(lambda pixels: view(Image.fromarray(pixels)))


def albumentations_on_arrays() -> Pipeline:
    """Albumentations' operations of the same names, which are OpenCV's."""
    library = importlib.import_module("albumentations")
    view = library.Compose(
        [
            library.RandomResizedCrop((SIZE, SIZE), scale=VIEW.crop_scale, ratio=VIEW.crop_ratio),
            library.HorizontalFlip(p=VIEW.flip),
            library.ColorJitter(*STRENGTHS, p=VIEW.jitter),
            library.ToGray(p=VIEW.grey),
            library.Normalize(RECIPE.mean, RECIPE.std),
        ]
    )
    return one_by_one(lambda pixels: torch.from_numpy(view(image=pixels)["image"].transpose(2, 0, 1)))


def kornia_on_a_batch() -> Pipeline:
    """Kornia's batched operations (it draws one order of the jitter a batch)."""
    library = importlib.import_module("kornia.augmentation")
    view = library.AugmentationSequential(
        library.RandomResizedCrop((SIZE, SIZE), scale=VIEW.crop_scale, ratio=VIEW.crop_ratio),
        library.RandomHorizontalFlip(p=VIEW.flip),
        library.ColorJiggle(*STRENGTHS, p=VIEW.jitter),
        library.RandomGrayscale(p=VIEW.grey),
        library.Normalize(torch.tensor(RECIPE.mean), torch.tensor(RECIPE.std)),
    )
    return lambda images: [view(images / 255) for _ in range(2)]


def one_by_one(view: Callable[[np.ndarray[Any, Any]], Tensor]) -> Pipeline:
    """A pipeline that makes both views of one image (H, W, C) after another."""
    return lambda images: [
        torch.stack([view(pixels) for pixels in images.permute(0, 2, 3, 1).contiguous().numpy()]) for _ in range(2)
    ]


PEERS: dict[str, Callable[[], Pipeline]] = {
    "lightly": lightly_on_pil,
    "albumentations": albumentations_on_arrays,
    "kornia": kornia_on_a_batch,
}
