"""Weighted k-nearest-neighbour classification of frozen features: no training, so nothing that could be tuned away.

Every query asks its k nearest rows of the labelled bank; a neighbour of cosine similarity s votes with the weight
exp(s / temperature) (Wu et al., 2018, https://huggingface.co/papers/1805.01978).
"""

import logging

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hf_ssl.errors import UsageError
from hf_ssl.evaluation.features import Features
from hf_ssl.evaluation.results import About, Result
from hf_ssl.functional import knn_predict

logger = logging.getLogger(__name__)

SETTINGS = ((20, 0.07), (200, 0.5), (200, 0.1))  # k and temperature; the first is the one that runs are watched by


def evaluate_knn(bank: Features, queries: Features, about: About) -> list[Result]:
    """Rows of every setting that the bank is large enough for; `UsageError` if either side has no labels."""
    rows: list[Result] = []
    for k, temperature in fitting_settings(bank.known_labels()):
        scores = vote(bank, queries, k, temperature)
        rows += about.rows("knn", {"k": k, "temperature": temperature}, scores, queries.known_labels())
    return rows


def knn_accuracy(bank: Features, queries: Features) -> float:
    """Return the share of queries that the first fitting setting labels rightly: the number a run is watched by.

    Raises:
        UsageError: if either side has no labels; rows without one are left out.

    """
    bank, queries = bank.labelled(), queries.labelled()
    k, temperature = fitting_settings(bank.known_labels(), notice=False)[0]
    right = vote(bank, queries, k, temperature).argmax(dim=1) == queries.known_labels()
    return float(right.to(torch.float64).mean())


def fitting_settings(bank_labels: Tensor, *, notice: bool = True) -> list[tuple[int, float]]:
    """Return the settings whose k is at most half the smallest class of the bank: beyond it other classes must vote.

    Where none fits, half the smallest class (at least 1) is the k of the first setting, so that there is a number.

    Raises:
        UsageError: if the bank is empty.

    """
    if not len(bank_labels):
        raise UsageError("kNN has no labelled images to compare with: the bank is empty.")
    half = int(bank_labels.unique(return_counts=True)[1].min()) // 2
    fitting = [setting for setting in SETTINGS if setting[0] <= half]
    left_out = sorted({k for k, _ in SETTINGS if k > half})
    if not fitting:
        fitting = [(max(half, 1), SETTINGS[0][1])]
    if left_out and notice:
        logger.warning(
            "kNN with k %s is left out: the smallest class of the bank has %d images%s.",
            " and ".join(map(str, left_out)),
            int(bank_labels.unique(return_counts=True)[1].min()),
            "" if fitting[0] in SETTINGS else f"; k {fitting[0][0]} stands in",
        )
    return fitting


def vote(bank: Features, queries: Features, k: int, temperature: float) -> Tensor:
    """Class scores (Q, K) of the queries from the bank's k nearest rows by cosine similarity."""
    labels = bank.known_labels()
    num_classes = int(max(labels.max(), queries.known_labels().max())) + 1
    return knn_predict(
        normalize(bank.embeddings, dim=1), labels, normalize(queries.embeddings, dim=1), k, temperature, num_classes
    )
