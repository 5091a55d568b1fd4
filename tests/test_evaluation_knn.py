"""The neighbours' vote: which settings a bank allows, and that it votes as published."""

import logging

import pytest
import torch

from hf_ssl.errors import UsageError
from hf_ssl.evaluation.features import Features
from hf_ssl.evaluation.knn import SETTINGS, evaluate_knn, fitting_settings, knn_accuracy
from hf_ssl.evaluation.results import About, headline


def clusters(per_class, classes=3, spread=0.3, seed=0, offset=0.0):
    """Features around one direction for each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(per_class)
    centres = torch.randn(classes, 16, generator=torch.Generator().manual_seed(99))
    noise = spread * torch.randn(len(labels), 16, generator=generator)
    return Features(centres[labels] + noise + offset, labels, list(range(len(labels))))


def test_the_settings_are_the_papers_and_the_first_is_the_one_runs_are_watched_by():
    assert SETTINGS == ((20, 0.07), (200, 0.5), (200, 0.1))
    rows = evaluate_knn(clusters(400), clusters(20, seed=1), About())
    assert [row["settings"] for row in rows if row["metric"] == "top1"] == [
        {"k": 20, "temperature": 0.07},
        {"k": 200, "temperature": 0.5},
        {"k": 200, "temperature": 0.1},
    ]
    assert headline(rows)["knn/top1"] == rows[0]["value"]


def test_a_k_above_half_the_smallest_class_is_left_out_with_a_notice(caplog):
    labels = torch.tensor([0] * 1000 + [1] * 399)
    with caplog.at_level(logging.WARNING):
        assert fitting_settings(labels) == [(20, 0.07)]
    assert "k 200 is left out" in caplog.text
    assert "399 images" in caplog.text
    caplog.clear()
    assert fitting_settings(torch.tensor([0] * 1000 + [1] * 400)) == list(SETTINGS)
    assert fitting_settings(torch.tensor([2] * 40)) == [(20, 0.07)]  # absent classes are not the smallest
    fitting_settings(torch.tensor([0] * 100), notice=False)
    assert caplog.text.count("left out") == 1


def test_where_no_setting_fits_half_the_smallest_class_stands_in(caplog):
    with caplog.at_level(logging.WARNING):
        assert fitting_settings(torch.tensor([0] * 30 + [1] * 14)) == [(7, 0.07)]
    assert "k 20 and 200 is left out" in caplog.text
    assert "k 7 stands in" in caplog.text
    assert fitting_settings(torch.tensor([0, 1])) == [(1, 0.07)]


def test_the_vote_is_the_weighted_one_of_the_paper():
    bank, queries = clusters(50, spread=3.0), clusters(30, spread=3.0, seed=1)
    row = evaluate_knn(bank, queries, About())[0]
    bank_unit = torch.nn.functional.normalize(bank.embeddings.double(), dim=1)
    right = 0
    for query, label in zip(queries.embeddings.double(), queries.labels, strict=True):
        similarity = bank_unit @ (query / query.norm())
        nearest = similarity.argsort(descending=True)[:20]
        votes = torch.zeros(3, dtype=torch.float64)
        for neighbour in nearest:
            votes[bank.labels[neighbour]] += (similarity[neighbour] / 0.07).exp()
        right += int(votes.argmax() == label)
    assert 0.4 < row["value"] < 0.95
    assert row["value"] == pytest.approx(right / len(queries.labels))
    assert knn_accuracy(bank, queries) == row["value"]


def test_only_directions_count():
    bank, queries = clusters(50, spread=1.0), clusters(30, spread=1.0, seed=1)
    scale = 10 ** torch.linspace(-3, 3, len(queries.rows))[:, None]
    louder = Features(queries.embeddings * scale, queries.labels, queries.rows)
    assert knn_accuracy(bank, louder) == knn_accuracy(bank, queries)


def test_rows_without_a_label_neither_vote_nor_count():
    bank, queries = clusters(50), clusters(30, seed=1)
    junk = Features(-100 * torch.ones(40, 16), torch.full((40,), -1), [0] * 40)
    more = []
    for side in (bank, queries):
        labels = torch.cat([side.labels, junk.labels])
        more.append(Features(torch.cat([side.embeddings, junk.embeddings]), labels, side.rows + junk.rows))
    assert knn_accuracy(*more) == knn_accuracy(bank, queries)


def test_no_labels_is_said():
    bank = clusters(50)
    bare = Features(bank.embeddings, None, bank.rows)
    unknown = Features(bank.embeddings, torch.full((150,), -1), bank.rows)
    for side in (bare, unknown):
        with pytest.raises(UsageError, match="needs labels"):
            knn_accuracy(bank, side)
        with pytest.raises(UsageError, match="needs labels"):
            evaluate_knn(side, bank, About())
