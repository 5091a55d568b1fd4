"""Labelled pairs of sources: a bank whose labels are learnt from, and queries that are scored."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hf_ssl.data.embedded import EMBEDDED
from hf_ssl.data.opening import Opened, open_splits
from hf_ssl.data.sources import Source, open_source
from hf_ssl.data.splits import TEST_SPLITS, refuse_unknown
from hf_ssl.errors import UsageError, listing

logger = logging.getLogger(__name__)

HELD_OUT = 0.2  # of the only split, where there is no test or validation split


def open_pair(
    name: str,
    *,
    config: str | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    seed: int = 0,
) -> tuple[Source, Source]:
    """Open (bank, queries) of a labelled data set.

    Without `test_split` the queries are the labelled test split, else validation, else a seeded fifth of the bank,
    with a notice. A data set with one split only is taken whole, whatever that split is called.

    Raises:
        UsageError: if something named does not exist, or there are no labels.

    """
    opened = open_splits(name, config, streaming=False)
    if train_split == "train" and len(opened.splits) == 1:
        train_split = next(iter(opened.splits))
    refuse_unknown(train_split, opened.splits, "--train_split")

    def source(split: str) -> Source:
        return open_source(name, config=config, split=split, image_column=image_column, label_column=label_column)

    bank = source(train_split)
    if not has_labels(bank):
        raise UsageError(
            f"'{name}' ({train_split}) has no labels: its columns are {listing(bank.dataset.features)}; "
            "a column of classes can be named with --label_column."
        )
    if test_split is not None:
        refuse_unknown(test_split, opened.splits, "--test_split")
        return _same_classes(bank, source(test_split))
    queries = _held_out(opened, train_split, source)
    if queries is not None:
        return _same_classes(bank, queries)
    order = np.random.default_rng(seed).permutation(len(bank))
    cut = max(1, round(HELD_OUT * len(bank)))
    logger.info(
        "'%s' has no labelled test or validation split: a seeded fifth of '%s' is held out.", name, train_split
    )
    return bank.select(np.sort(order[cut:]).tolist()), bank.select(np.sort(order[:cut]).tolist())


def open_probe(name: str | None, config: str | None, training: Source) -> tuple[Source, Source] | None:
    """Open (bank, queries) for the probe of a run: the data set `name`, else the training data's own labels.

    Those need a ClassLabel column and a labelled test or validation split that is not trained on; a notice says that
    they are used. None where there are no labels.

    Raises:
        UsageError: if the named data set does not exist or has no labels.

    """
    if name is not None:
        return open_pair(name, config=config)
    if training.label_column is None or training.class_names is None:
        return None
    if training.streaming and training.root is None and training.name not in EMBEDDED:
        logger.info("A stream from the Hub is not read twice for a probe: name --probe_dataset to have one.")
        return None

    def source(split: str) -> Source:
        return open_source(
            training.name,
            config=training.config,
            split=split,
            image_column=training.image_column,
            label_column=training.label_column,
        )

    queries = _held_out(open_splits(training.name, training.config, streaming=False), training.split, source)
    bank = source(training.split) if training.streaming else training
    if queries is None or not has_labels(bank):
        return None
    logger.info(
        "Probe: labels of '%s', bank '%s', queries '%s'; training never sees them.",
        training.name, training.split, queries.split,
    )  # fmt: skip
    return bank, queries


def has_labels(source: Source) -> bool:
    """Whether a map-style source has a label column with at least one label in it."""
    return source.label_column is not None and bool((source.labels() >= 0).any())


def _held_out(opened: Opened, train_split: str, source: Callable[[str], Source]) -> Source | None:
    """Open the first labelled split for testing that `train_split` does not touch."""
    used = {part.split("[")[0].strip() for part in train_split.split("+")}
    for split in TEST_SPLITS:
        if split in opened.splits and split not in used:
            candidate = source(split)
            if has_labels(candidate):
                return candidate
            logger.info("The split '%s' of '%s' has no labels.", split, candidate.name)
    return None


def _same_classes(bank: Source, queries: Source) -> tuple[Source, Source]:
    """Give both the same classes by name, so that a label means the same in each."""
    if bank.class_names is None or queries.class_names is None or bank.class_names == queries.class_names:
        return bank, queries
    names = tuple(sorted({*bank.class_names, *queries.class_names}))
    return _relabelled(bank, names), _relabelled(queries, names)


def _relabelled(source: Source, names: tuple[str, ...]) -> Source:
    """The same rows, their classes numbered as in `names`."""
    return replace(source, class_names=names, renumbered=tuple(names.index(name) for name in source.class_names or ()))
