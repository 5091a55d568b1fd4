"""Splits by name or by `datasets`' expressions ("train[:10%]", "train+test"), the same for every kind of source."""

import re
from collections.abc import Mapping
from typing import Any

import datasets

from hf_ssl.errors import UsageError, did_you_mean, listing

TEST_SPLITS = ("test", "validation")  # where a held-out part is looked for, in this order


def select_split(splits: Mapping[str, datasets.Dataset], expression: str, option: str = "--split") -> datasets.Dataset:
    """Return the rows that `expression` names, without copying images.

    Raises:
        UsageError: naming the splits that exist, or an expression that leaves no rows.

    """
    lengths = {str(name): len(dataset) for name, dataset in splits.items()}
    refuse_unknown(expression, lengths, option)
    try:
        pieces = datasets.ReadInstruction.from_spec(expression).to_absolute(lengths)
    except (ValueError, AssertionError) as error:
        raise UsageError(f"{option} {expression} is no expression of `datasets`: {error}.") from None
    parts = [splits[piece.splitname].select(range(piece.from_, piece.to)) for piece in pieces]
    chosen = parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)
    if not len(chosen):
        raise UsageError(f"{option} {expression} has no rows; {sizes(lengths)}.")
    return chosen


def select_stream(splits: Mapping[str, Any], name: str) -> Any:
    """Return the stream of a whole split.

    Raises:
        UsageError: naming the splits that exist, or that a stream has no slices.

    """
    if name not in splits and re.search(r"[\[+]", name):
        raise UsageError(f"--split {name}: a stream has whole splits only; leave --streaming out to train on a part.")
    refuse_unknown(name, splits, "--split")
    return splits[name]


def refuse_unknown(expression: str, names: Mapping[str, Any], option: str) -> None:
    """Raise UsageError when `expression` names a split that does not exist."""
    for part in expression.split("+"):
        name = part.split("[")[0].strip()
        if name not in names:
            raise UsageError(
                f"{option} {expression}: there is no split '{name}'; there is {listing(names)}."
                f"{did_you_mean(name, names)}"
            )


def sizes(lengths: Mapping[str, int]) -> str:
    """Return split names with their numbers of rows, for a message."""
    return ", ".join(f"'{name}' has {rows:,} rows" for name, rows in lengths.items())
