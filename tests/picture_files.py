"""Small data sets in files, made by the tests themselves."""

import io
import tarfile
from pathlib import Path

import datasets
import numpy as np
from PIL import Image


def picture(number: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """An RGB image (H, W, 3) that no other number has."""
    return np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def parquet(folder: Path, rows: int, *, files: int = 1, split: str = "train", broken: dict[int, bytes] | None = None,
            size: tuple[int, int] | None = (8, 8), labels: bool = True) -> Path:  # fmt: skip
    """Rows 0, 1, ... of `picture` in parquet files; size None makes every other image larger."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [size or ((100, 120) if row % 2 else (110, 100)) for row in range(rows)]
    encoded = [(broken or {}).get(row, encode(picture(row, sizes[row]))) for row in range(rows)]
    columns = {"image": [{"bytes": b, "path": f"{row}.png"} for row, b in enumerate(encoded)]}
    features = datasets.Features({"image": datasets.Image()})
    if labels:
        columns["label"] = [row % 3 for row in range(rows)]
        features["label"] = datasets.ClassLabel(names=["ant", "bee", "cat"])
    dataset = datasets.Dataset.from_dict(columns, features=features)
    for index in range(files):
        shard = dataset.shard(files, index, contiguous=True)
        shard.to_parquet(folder / f"{split}-{index:05d}-of-{files:05d}.parquet", batch_size=7)
    return folder


def image_files(folder: Path, names: list[str], size: tuple[int, int] = (8, 8)) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(number, size)))
    return folder


def tar_shards(folder: Path, shards: int, rows_each: int) -> Path:
    """webdataset shards: row.png and row.cls."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with tarfile.open(folder / f"shard-{shard:05d}.tar", "w") as archive:
            for row in range(shard * rows_each, (shard + 1) * rows_each):
                for suffix, content in (("png", encode(picture(row))), ("cls", str(row % 3).encode())):
                    member = tarfile.TarInfo(f"{row:04d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return folder
