"""The linear probe on cached features: one linear classifier, trained on representations that were computed once.

A probe's accuracy depends on its learning rate and weight decay, and what suits one backbone starves another. So a
grid of both is trained side by side, as columns of one matrix, on nine tenths of the training features; the held-out
tenth chooses, and the chosen setting is trained anew on all of them. The test features are only ever scored.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_ssl.errors import UsageError
from hf_ssl.evaluation.features import Features
from hf_ssl.evaluation.results import About, Result

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
WEIGHT_DECAYS = (0.0, 1e-3, 1e-2, 1e-1)
EPOCHS = 50
BATCH_SIZE = 256
MOMENTUM = 0.9


def evaluate_linear(bank: Features, queries: Features, about: About, *, epochs: int = EPOCHS) -> list[Result]:
    """Rows of the chosen probe on `queries`; the features are standardised by the bank's statistics.

    Raises:
        UsageError: if either side has no labels or the bank has fewer than two rows.

    """
    labels, test_labels = bank.known_labels(), queries.known_labels()
    num_classes = int(max(labels.max(), test_labels.max())) + 1
    mean, std = bank.embeddings.mean(dim=0), bank.embeddings.std(dim=0, correction=0)
    std = std.where(std > 1e-6 * std.max(), torch.inf)  # a dimension that never moves says nothing
    features, test_features = (bank.embeddings - mean) / std, (queries.embeddings - mean) / std
    learning_rate, weight_decay = choose(features, labels, num_classes, seed=about.seed, epochs=epochs)
    settings = [(learning_rate, weight_decay)]
    weights = fit(features, labels, num_classes, settings, seed=about.seed, epochs=epochs)
    described = {
        "probe": "cached",
        "epochs": epochs,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "chosen_on": "held-out tenth of train",
    }
    return about.rows("linear", described, score(test_features, weights)[0], test_labels)


def choose(features: Tensor, labels: Tensor, num_classes: int, *, seed: int, epochs: int) -> tuple[float, float]:
    """Return the learning rate and weight decay that a seeded held-out tenth of the rows (N, F) likes best.

    Raises:
        UsageError: if there are fewer than two rows.

    """
    if len(features) < 2:
        raise UsageError(f"The linear probe needs at least 2 labelled training images, not {len(features)}.")
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed)).to(features.device)
    held, kept = order.tensor_split([math.ceil(len(order) / 10)])
    grid = [(rate, decay) for rate in LEARNING_RATES for decay in WEIGHT_DECAYS]
    weights = fit(features[kept], labels[kept], num_classes, grid, seed=seed, epochs=epochs)
    logits = score(features[held], weights)  # (G, N, K)
    answers = labels[held].expand(len(grid), -1)
    loss = cross_entropy(logits.transpose(1, 2), answers, reduction="none").mean(dim=1)
    accuracy = (logits.argmax(dim=2) == answers).to(torch.float64).mean(dim=1)
    accuracy[~loss.isfinite()] = -1  # a rate that diverged
    best = max(range(len(grid)), key=lambda setting: (float(accuracy[setting]), -float(loss[setting])))
    return grid[best]


def fit(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    settings: Sequence[tuple[float, float]],
    *,
    seed: int,
    epochs: int,
) -> Tensor:
    """Train one softmax classifier per (learning rate, weight decay): -> weights (G, F + 1, K), the bias last.

    SGD with momentum and a cosine to zero on batches of 256, the same for every setting. The classifiers share
    each batch, so a step is two matrix products whatever G is. features: (N, F) float32; labels: int64 (N,).
    """
    count, groups = len(features), len(settings)
    features = torch.cat([features, features.new_ones(count, 1)], dim=1)
    rates, decays = (
        features.new_tensor(column).repeat_interleave(num_classes) for column in zip(*settings, strict=True)
    )
    weights = features.new_zeros(features.shape[1], groups * num_classes)
    velocity = torch.zeros_like(weights)
    batch_size = min(BATCH_SIZE, count)
    steps_per_epoch = count // batch_size
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        order = torch.randperm(count, generator=generator).to(features.device)
        for step in range(steps_per_epoch):
            rows = order[step * batch_size : (step + 1) * batch_size]
            images = features[rows]
            error = (images @ weights).view(len(rows), groups, num_classes).softmax(dim=2)
            error[torch.arange(len(rows)), :, labels[rows]] -= 1
            gradient = images.mT @ (error.view(len(rows), -1) / len(rows))
            gradient[:-1] += decays * weights[:-1]
            velocity.mul_(MOMENTUM).add_(gradient)
            done = (epoch * steps_per_epoch + step) / (epochs * steps_per_epoch)
            weights -= rates * (0.5 * (1 + math.cos(math.pi * done))) * velocity
    return weights.view(-1, groups, num_classes).transpose(0, 1)


def score(features: Tensor, weights: Tensor) -> Tensor:
    """Logits (G, N, K) of features (N, F) under weights (G, F + 1, K)."""
    return features @ weights[:, :-1] + weights[:, -1:]
