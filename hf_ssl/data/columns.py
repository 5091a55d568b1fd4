"""Which column holds the images and which the labels: by the user's word, or by the types of the columns."""

from collections.abc import Mapping
from typing import Any

import datasets

from hf_ssl.errors import UsageError, did_you_mean, listing

ARRAY_TYPES = (datasets.Array2D, datasets.Array3D)
BINARY_TYPES = ("binary", "large_binary")


def find_image_column(features: Mapping[str, Any], name: str | None) -> str:
    """Return the column of the images: `name` if it can hold them, else the only column of an image or array type.

    Raises:
        UsageError: naming the columns there are.

    """
    if name is not None:
        _require(features, name, "--image_column")
        if not (_is_image(features[name]) or is_encoded(features[name])):
            raise UsageError(f"--image_column {name} holds no images but {features[name]}.")
    found = [column for column, kind in features.items() if _is_image(kind)] if name is None else [name]
    if len(found) == 1:
        dtype = getattr(features[found[0]], "dtype", "uint8")
        if isinstance(features[found[0]], ARRAY_TYPES) and dtype != "uint8":
            raise UsageError(
                f"the column '{found[0]}' holds arrays of {dtype}; only arrays of uint8 are read as images."
            )
        return found[0]
    if found:
        raise UsageError(
            f"the data set has several columns of images, {listing(found)}: name one with --image_column."
        )
    raise UsageError(
        f"the data set has no column of images, only {listing(features)}; if one of them holds encoded images, "
        "name it with --image_column."
    )


def find_label_column(features: Mapping[str, Any], name: str | None) -> str | None:
    """Return the column of the labels: `name`, else a ClassLabel column ("label" before others), else None.

    Raises:
        UsageError: naming the columns there are.

    """
    if name is not None:
        _require(features, name, "--label_column")
        if isinstance(features[name], datasets.ClassLabel) or _is_number_or_text(features[name]):
            return name
        raise UsageError(f"--label_column {name} holds no classes but {features[name]}.")
    found = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    return "label" if "label" in found else next(iter(found), None)


def is_encoded(kind: Any) -> bool:
    """Whether images of this column type are stored as files, not as arrays."""
    return isinstance(kind, datasets.Image) or getattr(kind, "dtype", "") in BINARY_TYPES


def _require(features: Mapping[str, Any], name: str, option: str) -> None:
    if name not in features:
        raise UsageError(
            f"{option} {name}: no such column; there are {listing(features)}.{did_you_mean(name, features)}"
        )


def _is_image(kind: Any) -> bool:
    """Image files, arrays, and lists of lists of bytes."""
    depth = 0
    while isinstance(kind, datasets.List | datasets.LargeList):
        kind, depth = kind.feature, depth + 1
    if depth:
        return depth in (2, 3) and getattr(kind, "dtype", "") == "uint8"
    return isinstance(kind, (datasets.Image, *ARRAY_TYPES))


def _is_number_or_text(kind: Any) -> bool:
    dtype = str(getattr(kind, "dtype", ""))
    return isinstance(kind, datasets.Value) and ("int" in dtype or "string" in dtype)
