"""Local folders: what is in them decides how they are read, and nothing here touches the network.

Data files (parquet, tar shards, a README with `configs:`, a saved `datasets` folder) go to `datasets`. Image files are
listed here, because `datasets` reads meaning into names: a file called test_1.png would leave the training split.
Folders named like splits are splits; a split whose images all lie exactly one folder down, in two or more folders, is
labelled by folder; anything else is images without labels. Files and folders whose names begin with a dot are skipped.
"""

import logging
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import datasets

from hf_ssl.errors import UsageError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = {
    ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif",
    ".tiff", ".webp",
}  # fmt: skip
DATA_SUFFIXES = {".parquet", ".arrow", ".tar"}
METADATA_FILES = {"metadata.csv", "metadata.jsonl", "metadata.parquet"}
CONFIGURED = re.compile(r"---\s*\n(?:(?!---).*\n)*?configs:")  # in the YAML head of a README
UNLABELED = "unlabeled"
SPLIT_FOLDERS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "val": "validation",
    "valid": "validation", "validation": "validation", "dev": "validation", "unlabeled": UNLABELED,
    "unlabelled": UNLABELED,
}  # fmt: skip


def list_files(folder: Path) -> list[Path]:
    """All files below `folder`, as sorted paths relative to it; links to folders are followed once."""
    found: list[Path] = []
    visited: set[Path] = set()
    for where, inner, names in os.walk(folder, followlinks=True):
        real = Path(where).resolve()
        inner[:] = sorted(name for name in inner if not name.startswith(".")) if real not in visited else []
        if real not in visited:
            found += [Path(where, name).relative_to(folder) for name in names if not name.startswith(".")]
        visited.add(real)
    return sorted(found, key=Path.as_posix)


def is_for_datasets(folder: Path, files: list[Path]) -> bool:
    """Whether the library `datasets` should read `folder`: it holds data files or says how it is to be read."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    configured = CONFIGURED.match(text) is not None
    if configured or any(path.suffix.lower() in DATA_SUFFIXES for path in files):
        return True
    return any(path.name in METADATA_FILES for path in files)


def read_images(folder: Path, files: list[Path]) -> dict[str, datasets.Dataset]:
    """One data set a split: column "image" with the path of each file, and "label" where folders are classes.

    Raises:
        UsageError: if there is no image, naming what there is.

    """
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and _is_text(path)]
    if not images:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in files).most_common(3)
        there = ", ".join(f"{count} with {kind}" for kind, count in kinds) or "nothing"
        raise UsageError(f"the folder '{folder}' holds no images and no data files (it holds {there}).")
    splits = _by_split(images)
    classes = _classes(splits)
    if classes:
        _say_once(f"{folder}: {len(classes)} folders taken as classes")
    return {split: _dataset(folder, paths, [] if split == UNLABELED else classes) for split, paths in splits.items()}


def _by_split(images: list[Path]) -> dict[str, dict[Path, Path]]:
    """Group by split: {split: {path inside the split: path inside the folder}}."""
    tops = {path.parts[0].lower() if len(path.parts) > 1 else "" for path in images}
    if not tops <= set(SPLIT_FOLDERS):
        return {"train": {path: path for path in images}}
    splits: dict[str, dict[Path, Path]] = {}
    for path in images:
        splits.setdefault(SPLIT_FOLDERS[path.parts[0].lower()], {})[Path(*path.parts[1:])] = path
    return splits


def _classes(splits: dict[str, dict[Path, Path]]) -> list[str]:
    """Names of the classes, or none where folders do not look like classes in every split that may have labels."""
    insides = [inside for split, paths in splits.items() if split != UNLABELED for inside in paths]
    names = {inside.parts[0] for inside in insides}
    return sorted(names) if len(names) > 1 and all(len(inside.parts) == 2 for inside in insides) else []


@cache
def _say_once(text: str) -> None:
    """Tell a notice once, however often a folder is opened."""
    logger.info(text)


def _dataset(folder: Path, paths: dict[Path, Path], classes: list[str]) -> datasets.Dataset:
    root = folder.resolve()
    columns: dict[str, list[object]] = {
        "image": [{"bytes": None, "path": str(root / path)} for path in paths.values()]
    }
    features = datasets.Features({"image": datasets.Image(decode=False)})
    if classes:
        numbers = {name: number for number, name in enumerate(classes)}
        columns["label"] = [numbers[inside.parts[0]] for inside in paths]
        features["label"] = datasets.ClassLabel(names=classes)
    return datasets.Dataset.from_dict(columns, features=features)


def _is_text(path: Path) -> bool:
    """Whether the name can be written down; a column of names cannot hold others."""
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        logger.warning("a file whose name is not valid text is left out: %r", path.as_posix())
        return False
    return True
