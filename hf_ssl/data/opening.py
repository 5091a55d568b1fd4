"""From a name to its splits: embedded set, local folder or Hub id, each failure told in one sentence."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from hf_ssl.data.embedded import EMBEDDED
from hf_ssl.data.folders import is_for_datasets, list_files, read_images
from hf_ssl.errors import HfSslError, UsageError, did_you_mean, listing

logger = logging.getLogger(__name__)

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
ORDER_SEED = 0


@dataclass(frozen=True)
class Opened:
    """Splits of a data set; rows: how many each has, where known; root: the local folder, if it is one."""

    splits: Mapping[str, Any]
    rows: Mapping[str, int]
    root: Path | None = None


def open_splits(name: str, config: str | None, streaming: bool) -> Opened:
    """Open every split of a data set.

    Raises:
        UsageError: if there is no such folder, data set or configuration.
        HfSslError: if it cannot be reached or read.

    """
    folder = Path(name).expanduser()
    if name in EMBEDDED:
        if folder.is_dir():
            logger.warning("'%s' is the embedded data set; write './%s' for the folder of that name.", name, name)
        _refuse_config(name, config)
        return _in_random_order(EMBEDDED[name](), None) if streaming else _whole(EMBEDDED[name](), None)
    if folder.is_dir():
        return _open_folder(folder, config, streaming)
    if folder.is_file():
        raise UsageError(f"--dataset {name} is a file; give the folder that holds it.")
    if not HUB_ID.fullmatch(name) or (len(folder.parts) > 1 and Path(folder.parts[0]).is_dir()) or name in (".", ".."):
        siblings = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise UsageError(f"there is no folder '{name}'.{did_you_mean(folder.name, siblings)}")
    return _open_with_datasets(name, config, streaming, None)


def _open_folder(folder: Path, config: str | None, streaming: bool) -> Opened:
    files = list_files(folder)
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        _refuse_config(str(folder), config)
        saved = datasets.load_from_disk(str(folder))
        opened = _whole(saved if isinstance(saved, dict) else {"train": saved}, folder)
        return _streamed(opened) if streaming else opened
    if is_for_datasets(folder, files):
        return _open_with_datasets(str(folder), config, streaming, folder)
    _refuse_config(str(folder), config)
    splits = read_images(folder, files)
    return _in_random_order(splits, folder) if streaming else _whole(splits, folder)


def _whole(splits: Mapping[str, datasets.Dataset], root: Path | None) -> Opened:
    named = {str(name): dataset for name, dataset in splits.items()}
    return Opened(named, {name: len(dataset) for name, dataset in named.items()}, root)


def _streamed(opened: Opened) -> Opened:
    return replace(opened, splits={name: d.to_iterable_dataset() for name, d in opened.splits.items()})


def _in_random_order(splits: Mapping[str, datasets.Dataset], root: Path | None) -> Opened:
    """Stream splits that are small in memory and sorted by class, in a fixed random order."""
    shuffled = {name: dataset.shuffle(seed=ORDER_SEED, keep_in_memory=True) for name, dataset in splits.items()}
    datasets.disable_progress_bars()  # for what takes no time
    try:
        flat = {name: d.flatten_indices(keep_in_memory=True) for name, d in shuffled.items()}
    finally:
        datasets.enable_progress_bars()
    return _streamed(_whole(flat, root))


def _open_with_datasets(name: str, config: str | None, streaming: bool, root: Path | None) -> Opened:
    try:
        builder = datasets.load_dataset_builder(name, config)
        if not streaming:
            builder.download_and_prepare()
        splits = builder.as_streaming_dataset() if streaming else builder.as_dataset()
    except (DatasetNotFoundError, ConnectionError) as error:
        raise _unreachable(name, error) from None
    except ValueError as error:
        available = re.search(r"\[.*\]", str(error), flags=re.DOTALL)
        if "onfig" in str(error) and available:
            asked = f"--dataset_config {config}: no such configuration of" if config else "name a --dataset_config of"
            raise UsageError(f"{asked} '{name}'; there is {available.group()[1:-1]}.") from None
        raise HfSslError(f"'{name}' cannot be read as a data set: {_first_line(error)}") from None
    except (DatasetGenerationError, OSError, RuntimeError, TypeError) as error:
        raise HfSslError(f"'{name}' cannot be read as a data set: {_first_line(error.__cause__ or error)}") from None
    rows = {str(split): info.num_examples for split, info in (builder.info.splits or {}).items() if info.num_examples}
    return Opened({str(split): d for split, d in splits.items()}, rows or _parquet_rows(builder), root)


def _unreachable(name: str, error: Exception) -> HfSslError:
    if isinstance(error, DatasetNotFoundError):
        return UsageError(
            f"there is no folder '{name}' here and no data set '{name}' on the Hub that this machine may read; "
            f"embedded are {listing(sorted(_embedded()))}.{did_you_mean(name, _embedded())}"
        )
    return HfSslError(
        f"there is no folder '{name}' here, and the Hub could not be reached to look for it ({_first_line(error)})."
        f"{did_you_mean(name, _embedded())}"
    )


def _embedded() -> list[str]:
    return list(EMBEDDED)


def _refuse_config(name: str, config: str | None) -> None:
    if config is not None:
        raise UsageError(f"--dataset_config {config}: '{name}' has no configurations; leave it out.")


def _parquet_rows(builder: Any) -> dict[str, int]:
    """Rows of local parquet files, read from their footers."""
    files = builder.config.data_files or {}
    local = {str(split): [Path(path) for path in paths] for split, paths in files.items()}
    return {
        split: sum(pq.read_metadata(path).num_rows for path in paths)
        for split, paths in local.items()
        if all(path.suffix == ".parquet" and path.is_file() for path in paths)
    }


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
