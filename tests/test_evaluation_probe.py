"""The linear probe: as good as a solver, every setting by itself, and blind to the test labels."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hf_ssl.errors import UsageError
from hf_ssl.evaluation import probe
from hf_ssl.evaluation.features import Features
from hf_ssl.evaluation.results import About


def problem(count, seed=0, width=24, classes=4, noise=1.2, flip=0.0):
    """Classes that a linear map tells apart but for noise, on columns of very different scale."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(width, classes, generator=torch.Generator().manual_seed(5))
    features = torch.randn(count, width, generator=generator)
    logits = features @ truth + noise * torch.randn(count, classes, generator=generator)
    labels = logits.argmax(dim=1)
    wrong = torch.rand(count, generator=generator) < flip
    labels[wrong] = torch.randint(0, classes, (int(wrong.sum()),), generator=generator)
    return Features(features * torch.logspace(-3, 3, width) + 7, labels, list(range(count)))


def top1(rows):
    return next(row for row in rows if row["metric"] == "top1")


def test_it_is_as_good_as_a_solver_with_the_best_penalty():
    train, test = problem(2000), problem(2000, seed=1)
    mean, std = train.embeddings.mean(dim=0), train.embeddings.std(dim=0)
    ours = top1(probe.evaluate_linear(train, test, About()))["value"]
    theirs = max(
        LogisticRegression(C=penalty, max_iter=500)
        .fit(((train.embeddings - mean) / std).numpy(), train.labels.numpy())
        .score(((test.embeddings - mean) / std).numpy(), test.labels.numpy())
        for penalty in (0.001, 0.01, 0.1)
    )
    assert theirs > 0.75
    assert ours > theirs - 0.01


def test_a_row_says_what_was_chosen_and_on_what():
    row = top1(probe.evaluate_linear(problem(300), problem(100, seed=1), About(), epochs=5))
    assert row["protocol"] == "linear"
    settings = row["settings"]
    assert settings["probe"] == "cached"
    assert settings["epochs"] == 5
    assert settings["chosen_on"] == "held-out tenth of train"
    assert settings["learning_rate"] in probe.LEARNING_RATES
    assert settings["weight_decay"] in probe.WEIGHT_DECAYS


def test_the_test_labels_choose_nothing():
    """A probe that picked by the test would pick another setting for labels that only another setting gets right."""
    train, test = problem(400, flip=0.4), problem(400, seed=1)
    grid = [(rate, decay) for rate in probe.LEARNING_RATES for decay in probe.WEIGHT_DECAYS]
    chosen = top1(probe.evaluate_linear(train, test, About()))["settings"]
    scale = train.embeddings.std(dim=0)
    favoured = set()
    for setting in grid:
        weights = probe.fit(train.embeddings / scale, train.labels, 4, [setting], seed=0, epochs=50)
        labels = probe.score(test.embeddings / scale, weights)[0].argmax(dim=1)
        row = top1(probe.evaluate_linear(train, Features(test.embeddings, labels, test.rows), About()))
        favoured.add((row["settings"]["learning_rate"], row["settings"]["weight_decay"]))
    assert favoured == {(chosen["learning_rate"], chosen["weight_decay"])}


def test_the_held_out_rows_choose_and_are_not_trained_on(monkeypatch):
    train = problem(300)
    seen = []
    original = probe.fit

    def watched(features, labels, num_classes, settings, **options):
        seen.append((features, len(settings)))
        return original(features, labels, num_classes, settings, **options)

    monkeypatch.setattr(probe, "fit", watched)
    probe.evaluate_linear(train, problem(50, seed=1), About(seed=3), epochs=3)
    (sweep, settings), (last, one) = seen
    assert (len(sweep), settings) == (270, len(probe.LEARNING_RATES) * len(probe.WEIGHT_DECAYS))
    assert (len(last), one) == (300, 1)
    everyone, kept = {tuple(row) for row in last.tolist()}, {tuple(row) for row in sweep.tolist()}
    assert kept < everyone
    probe.evaluate_linear(train, problem(50, seed=1), About(seed=3), epochs=3)
    probe.evaluate_linear(train, problem(50, seed=1), About(seed=4), epochs=3)
    assert torch.equal(seen[2][0], sweep)
    assert {tuple(row) for row in seen[4][0].tolist()} != kept


def test_the_choice_is_the_best_of_the_held_out_part(monkeypatch):
    train = problem(600, flip=0.4)
    picked = probe.choose(train.embeddings / train.embeddings.std(dim=0), train.labels, 4, seed=0, epochs=20)
    monkeypatch.setattr(probe, "LEARNING_RATES", (1e-9, picked[0]))
    monkeypatch.setattr(probe, "WEIGHT_DECAYS", (picked[1],))
    assert probe.choose(train.embeddings / train.embeddings.std(dim=0), train.labels, 4, seed=0, epochs=20) == picked


def test_a_rate_that_diverges_is_never_chosen(monkeypatch):
    monkeypatch.setattr(probe, "LEARNING_RATES", (1e6, 0.01, 1e7))
    monkeypatch.setattr(probe, "WEIGHT_DECAYS", (10.0,))
    row = top1(probe.evaluate_linear(problem(500), problem(300, seed=1), About(), epochs=20))
    assert row["settings"]["learning_rate"] == 0.01
    assert row["value"] > 0.5


def test_settings_trained_side_by_side_do_not_touch_each_other():
    train = problem(500)
    features = (train.embeddings - train.embeddings.mean(dim=0)) / train.embeddings.std(dim=0)
    grid = [(0.01, 0.0), (0.1, 0.1), (0.003, 0.01)]
    together = probe.fit(features, train.labels, 4, grid, seed=0, epochs=4)
    for place, setting in enumerate(grid):
        alone = probe.fit(features, train.labels, 4, [setting], seed=0, epochs=4)
        torch.testing.assert_close(alone[0], together[place], rtol=1e-4, atol=1e-5)


def test_one_step_is_the_gradient_of_cross_entropy_with_weight_decay_on_all_but_the_bias(monkeypatch):
    monkeypatch.setattr(probe, "BATCH_SIZE", 40)
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(1))
    weights = torch.zeros(7, 3, requires_grad=True)
    velocity = torch.zeros(7, 3)
    extended = torch.cat([features, torch.ones(40, 1)], dim=1)
    for step in range(3):
        loss = torch.nn.functional.cross_entropy(extended @ weights, labels) + 0.05 * weights[:-1].square().sum() / 2
        (gradient,) = torch.autograd.grad(loss, weights)
        velocity = 0.9 * velocity + gradient
        rate = 0.2 * 0.5 * (1 + np.cos(np.pi * step / 3))
        weights = (weights - rate * velocity).detach().requires_grad_()
    ours = probe.fit(features, labels, 3, [(0.2, 0.05)], seed=0, epochs=3)[0]
    torch.testing.assert_close(ours, weights.detach(), rtol=1e-4, atol=1e-6)


def quick(train, test):
    return top1(probe.evaluate_linear(train, test, About(), epochs=10))["value"]


def test_a_test_image_is_scored_the_same_whatever_stands_beside_it():
    train, test = problem(400), problem(200, seed=1)
    parts = [Features(test.embeddings[part], test.labels[part], test.rows[part]) for part in (slice(9), slice(9, 200))]
    assert quick(train, test) == pytest.approx((9 * quick(train, parts[0]) + 191 * quick(train, parts[1])) / 200)
    moved = test.embeddings + 2 * test.embeddings.std(dim=0)
    assert quick(train, Features(moved, test.labels, test.rows)) < quick(train, test) - 0.05


def test_a_dimension_that_never_moves_and_a_class_that_is_not_in_train_do_no_harm():
    train, test = problem(400), problem(200, seed=1)
    dead = [
        Features(torch.cat([side.embeddings, torch.full((len(side.rows), 1), value)], dim=1), side.labels, side.rows)
        for side, value in ((train, 3.0), (test, 1e9))
    ]
    assert quick(*dead) == quick(train, test)
    stranger = Features(test.embeddings, test.labels.index_fill(0, torch.tensor([0]), 5), test.rows)
    assert quick(train, stranger) == pytest.approx(quick(train, test), abs=0.02)


def test_tiny_and_unlabelled_sides_are_said():
    one = problem(1)
    with pytest.raises(UsageError, match="at least 2"):
        probe.evaluate_linear(one, problem(5), About())
    with pytest.raises(UsageError, match="needs labels"):
        probe.evaluate_linear(Features(one.embeddings, None, one.rows), problem(5), About())
    assert probe.evaluate_linear(problem(2), problem(5, seed=1), About(), epochs=2)
