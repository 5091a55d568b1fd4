"""All protocols at once: features of both sides are computed once and every protocol reads them."""

import hashlib
from collections.abc import Callable, Sequence

import torch

from hf_ssl.data import Source
from hf_ssl.errors import UsageError, did_you_mean, listing
from hf_ssl.evaluation.features import Encode, Features, extract
from hf_ssl.evaluation.knn import evaluate_knn
from hf_ssl.evaluation.probe import evaluate_linear
from hf_ssl.evaluation.results import About, Result, clean_command
from hf_ssl.preprocessing import Preprocess

Protocol = Callable[[Features, Features, About], list[Result]]

PROTOCOLS: dict[str, Protocol] = {"knn": evaluate_knn, "linear": evaluate_linear}


def evaluate(
    encode: Encode,
    preprocess: Preprocess,
    bank: Source,
    queries: Source,
    *,
    protocols: Sequence[str] = ("knn", "linear"),
    seed: int = 0,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    command: str = "",
    progress: bool = False,
) -> list[Result]:
    """Measure representations by labelled images: those of `bank` teach, those of `queries` are scored.

    `encode` takes normalised images (b, C, S, S) to (b, F); a module should be in eval mode. `limit` keeps a seeded
    choice of so many rows of each side.

    Raises:
        UsageError: for an unknown protocol, or sides without labels.
        HfSslError: if no image can be read, or representations are not finite.

    """
    check_protocols(protocols)

    def features(source: Source) -> Features:
        return extract(
            encode,
            source,
            preprocess,
            batch_size=batch_size,
            device=device,
            limit=limit,
            seed=seed,
            progress=progress,
        ).labelled()

    taught, asked = features(bank), features(queries)
    about = About(
        dataset=clean_command([queries.name]),
        dataset_fingerprint=fingerprint(bank, queries),
        split=queries.split,
        settings=(
            ("preprocessing", preprocess.describe()),
            ("n_train", len(taught.rows)),
            ("n_test", len(asked.rows)),
        ),
        seed=seed,
        command=command,
    )
    return [row for name in protocols for row in PROTOCOLS[name](taught, asked, about)]


def check_protocols(protocols: Sequence[str]) -> None:
    """Raise UsageError for a protocol that does not exist, naming the nearest that does."""
    for name in protocols:
        if name not in PROTOCOLS:
            known = listing(PROTOCOLS)
            raise UsageError(f"--protocols {name} is unknown; known: {known}.{did_you_mean(name, PROTOCOLS)}")


def fingerprint(bank: Source, queries: Source) -> str:
    """One fingerprint of the images that teach and the images that are scored."""
    return hashlib.sha256(f"{bank.fingerprint}/{queries.fingerprint}".encode()).hexdigest()[:16]
