"""The weighted vote of the nearest neighbours, against published scores and a plain sort."""

import pytest
import torch
from conftest import golden

from hf_ssl import functional as F
from hf_ssl.functional import neighbours


def unit_rows(rows, width, seed=0):
    z = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(z)


def plain_vote(bank, labels, queries, k, temperature, classes):
    """Every similarity sorted, equals in the order of the bank, votes added one by one."""
    similarity = queries @ bank.T
    order = similarity.sort(dim=1, descending=True, stable=True).indices[:, :k]
    scores = torch.zeros(len(queries), classes, dtype=similarity.dtype)
    for row, indices in enumerate(order):
        for index in indices:
            scores[row, labels[index]] += (similarity[row, index] / temperature).exp()
    return scores


@pytest.mark.parametrize("k", [7, 40])
@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_scores_and_order_of_classes_are_the_published_ones(k, temperature):
    arrays = golden("knn")
    bank, queries = arrays["bank"].double(), arrays["query"].double()
    scores = F.knn_predict(bank, arrays["bank_labels"], queries, k, temperature, int(arrays["classes"]))
    name = f"k{k}_t{temperature}"
    torch.testing.assert_close(scores, arrays[f"scores_{name}"], rtol=1e-6, atol=1e-6)
    assert torch.equal(scores.argsort(dim=1, descending=True), arrays[f"pred_order_{name}"])
    accuracy = (scores.argmax(1) == arrays["query_labels"]).double().mean()
    torch.testing.assert_close(accuracy, arrays[f"top1_{name}"])


@pytest.mark.parametrize("k", [1, 5, 29, 30])
def test_any_k_up_to_the_whole_bank_gives_the_plain_vote(k):
    bank, queries = unit_rows(30, 6), unit_rows(11, 6, seed=1)
    labels = torch.randint(4, (30,), generator=torch.Generator().manual_seed(2))
    scores = F.knn_predict(bank, labels, queries, k, 0.2, 4)
    torch.testing.assert_close(scores, plain_vote(bank, labels, queries, k, 0.2, 4), rtol=1e-12, atol=0)


@pytest.mark.parametrize("k", [1, 2, 7, 50, 199])
def test_among_equally_similar_rows_the_lower_index_is_nearer(k):
    """Rows of zeros and a single one make every similarity 0 or 1, so ties are exact and everywhere."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.eye(4)[torch.randint(4, (200,), generator=generator)]
    queries = torch.eye(4)[torch.randint(4, (40,), generator=generator)]
    labels = torch.arange(200)  # every row its own class, so that the vote shows who voted
    scores = F.knn_predict(bank, labels, queries, k, 0.5, 200)
    assert torch.equal(scores, plain_vote(bank, labels, queries, k, 0.5, 200))


def test_a_collapsed_bank_votes_with_its_first_rows():
    bank, labels = unit_rows(1, 8).expand(100, 8), torch.arange(100)
    scores = F.knn_predict(bank, labels, bank[:3], 10, 1.0, 100)
    assert torch.equal(scores > 0, (torch.arange(100) < 10).expand(3, 100))


def test_blocks_of_queries_change_nothing_and_bound_the_memory(monkeypatch):
    bank, queries = unit_rows(30, 6), unit_rows(23, 6, seed=1)
    labels = torch.randint(4, (30,), generator=torch.Generator().manual_seed(2))
    whole = F.knn_predict(bank, labels, queries, 5, 0.2, 4)

    held, nearest = [], neighbours._nearest
    monkeypatch.setattr(
        neighbours, "_nearest", lambda similarity, k: held.append(similarity.numel()) or nearest(similarity, k)
    )
    for entries in (1, 30, 100, 10**6):
        held.clear()
        monkeypatch.setattr(neighbours, "BLOCK_ENTRIES", entries)
        torch.testing.assert_close(F.knn_predict(bank, labels, queries, 5, 0.2, 4), whole, rtol=1e-12, atol=0)
        assert max(held) <= max(entries, 30) and sum(held) == 30 * 23


def test_precision_of_the_scores_and_no_gradient():
    bank, labels, queries = unit_rows(30, 6), torch.arange(30) % 3, unit_rows(4, 6, seed=1)
    half = F.knn_predict(bank.half(), labels, queries.half(), 5, 0.2, 3)
    assert half.dtype == torch.float32
    assert torch.equal(half, F.knn_predict(bank.half().float(), labels, queries.half().float(), 5, 0.2, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = F.knn_predict(bank.float(), labels, queries.float(), 5, 0.2, 3)
    assert torch.equal(cast, F.knn_predict(bank.float(), labels, queries.float(), 5, 0.2, 3))
    assert not F.knn_predict(bank.requires_grad_(), labels, queries, 5, 0.2, 3).requires_grad


def test_a_vote_that_cannot_be_held_is_refused():
    bank, labels = unit_rows(10, 4), torch.zeros(10, dtype=torch.int64)
    for k in (0, 11):
        with pytest.raises(ValueError, match=f"k is {k} .*10 rows"):
            F.knn_predict(bank, labels, bank, k, 0.1, 2)
    with pytest.raises(ValueError, match="temperature is 0"):
        F.knn_predict(bank, labels, bank, 3, 0.0, 2)
    with pytest.raises(ValueError, match=r"temperature is 0\.001"):
        F.knn_predict(bank.float(), labels, bank.float(), 3, 0.001, 2)


def test_no_queries_give_no_scores():
    bank, labels = unit_rows(10, 4), torch.zeros(10, dtype=torch.int64)
    assert F.knn_predict(bank, labels, bank[:0], 3, 0.1, 2).shape == (0, 2)
