"""What an augmentation does, as numbers: how likely and how strong every operation is on each of the two views.

A recipe is data; the four named ones are those of the papers' code. Nothing here draws or touches a pixel.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from hf_ssl.errors import UsageError, listing

INTERPOLATIONS = ("bilinear", "bicubic")
SMALLEST_BLUR_KERNEL = 3

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _freeze(value: Any) -> None:
    """Turn lists, which YAML gives, into tuples, so that recipes compare and hash by value."""
    for field in dataclasses.fields(value):
        if isinstance(getattr(value, field.name), list):
            object.__setattr__(value, field.name, tuple(getattr(value, field.name)))


def _require(holds: bool, value: Any, name: str, wanted: str) -> None:
    if not holds:
        raise UsageError(f"augmentation field '{name}' is {getattr(value, name)!r} but must be {wanted}")


@dataclass(frozen=True)
class ViewRecipe:
    """One view's probabilities and strengths, in torchvision's meaning.

    `crop_scale` (share of the image's area) and `crop_ratio` (width / height) belong to RandomResizedCrop;
    `brightness`, `contrast`, `saturation` and `hue` to ColorJitter, applied together with probability `jitter`;
    `flip`, `grey`, `blur` and `solarize` are probabilities; `blur_sigma` is in pixels of the view.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0

    def __post_init__(self) -> None:
        _freeze(self)
        for name in ("flip", "jitter", "grey", "blur", "solarize"):
            _require(0 <= getattr(self, name) <= 1, self, name, "a number from 0 to 1")
        for name in ("brightness", "contrast", "saturation"):
            _require(getattr(self, name) >= 0, self, name, "a number that is not negative")
        _require(0 <= self.hue <= 0.5, self, "hue", "a number from 0 to 0.5")
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            _require(0 < low <= high, self, name, "two numbers above 0, the smaller one first")
        _require(self.crop_scale[1] <= 1, self, "crop_scale", "at most 1, the whole image")


@dataclass(frozen=True)
class Recipe:
    """Two views' recipes and what they share.

    `crop_last` puts colour jitter and grey before the crop (the order of Mixed Barlow Twins on TinyImageNet and
    STL-10; the contrast's mean is then the whole image's). `blur_kernel` is in pixels, odd; None takes a tenth of the
    view's size. `solarize_threshold`, `mean` and `std` (one entry a channel) are shares of full scale.
    """

    name: str
    view_a: ViewRecipe = ViewRecipe()
    view_b: ViewRecipe = ViewRecipe()
    interpolation: str = "bilinear"
    crop_last: bool = False
    blur_kernel: int | None = None
    solarize_threshold: float = 128 / 255
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        _freeze(self)
        _require(self.interpolation in INTERPOLATIONS, self, "interpolation", f"one of {listing(INTERPOLATIONS)}")
        kernel = self.blur_kernel
        _require(kernel is None or (kernel > 0 and kernel % 2 == 1), self, "blur_kernel", "an odd number of pixels")
        _require(0 <= self.solarize_threshold <= 1, self, "solarize_threshold", "a number from 0 to 1")
        same_length = len(self.mean) == len(self.std) > 0
        _require(same_length and all(value > 0 for value in self.std), self, "std", "as long as mean and above 0")

    @property
    def views(self) -> tuple[ViewRecipe, ViewRecipe]:
        """Both views' recipes, a first."""
        return self.view_a, self.view_b

    def statistics(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std for this many channels; a number that the recipe does not know takes their averages."""
        if len(self.mean) == channels:
            return self.mean, self.std
        return (sum(self.mean) / len(self.mean),) * channels, (sum(self.std) / len(self.std),) * channels

    def kernel_size(self, size: int) -> int:
        """Blur kernel in pixels for views of `size`: a tenth of it made odd (23 at 224), never below 3."""
        return self.blur_kernel or max(SMALLEST_BLUR_KERNEL, size // 10 | 1)


def symmetric(name: str, view: ViewRecipe, **shared: Any) -> Recipe:
    """Return a recipe whose two views are drawn alike."""
    return Recipe(name, view, view, **shared)


_SMALL = ViewRecipe(crop_scale=(0.2, 1.0), grey=0.1)
_LARGE = ViewRecipe(saturation=0.2)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        symmetric("cifar", ViewRecipe(), mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)),
        symmetric(
            "tiny_imagenet",
            _SMALL,
            interpolation="bicubic",
            crop_last=True,
            mean=(0.480, 0.448, 0.398),
            std=(0.277, 0.269, 0.282),
        ),
        symmetric(
            "stl10", _SMALL, interpolation="bicubic", crop_last=True, mean=(0.43, 0.42, 0.39), std=(0.27, 0.26, 0.27)
        ),
        Recipe(
            "imagenet",
            view_a=dataclasses.replace(_LARGE, blur=1.0),
            view_b=dataclasses.replace(_LARGE, blur=0.1, solarize=0.2),
            interpolation="bicubic",
        ),
        symmetric("simclr", ViewRecipe(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5)),
        symmetric("moco_v2", ViewRecipe(crop_scale=(0.2, 1.0), blur=0.5)),
        Recipe(
            "moco_v3",
            view_a=dataclasses.replace(_LARGE, crop_scale=(0.2, 1.0), blur=1.0),
            view_b=dataclasses.replace(_LARGE, crop_scale=(0.2, 1.0), blur=0.1, solarize=0.2),
        ),
    )
}
"""Mixed Barlow Twins' small recipes (2312.02151), BYOL's asymmetric one, which Barlow Twins uses (2006.07733), and
those of SimCLR (2002.05709), MoCo v2 (2003.04297) and v3 (2104.02057)."""
