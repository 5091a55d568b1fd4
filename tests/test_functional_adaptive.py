"""Learned temperatures against the authors' numbers, and the laws that make the soft forms safe."""

import math

import pytest
import torch
from conftest import golden
from torch.autograd import grad

from hf_ssl import functional as F

EXACT = {"rtol": 1e-9, "atol": 1e-10}
PUBLISHED_IN_FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}
WITH_EPSILON = {"rtol": 1e-8, "atol": 1e-8}


@pytest.fixture(scope="module")
def arrays():
    return {name: value.double() if value.is_floating_point() else value for name, value in golden("amcl_v2").items()}


def phi(arrays, prefix=""):
    """The authors' network Linear-ReLU-Linear, with its own copy of the parameters."""
    names = [f"{prefix}phi_{name}" for name in ("W1", "b1", "W2", "b2")]
    w1, b1, w2, b2 = parameters = [arrays[name].clone().requires_grad_() for name in names]
    return (lambda z: (z @ w1.T + b1).relu() @ w2.T + b2), dict(zip(names, parameters, strict=True))


def bounds(arrays):
    return arrays["tau_min"].item(), arrays["tau_max"].item()


def two_views(z_a, z_b, network, low, high):
    """Scores and temperatures of (B, C, d) twice, with heads in front."""
    items = F.normalize(torch.cat([z_a, z_b]).transpose(0, 1))
    products = F.inner_products(network(items), network(items))
    return F.split_views(items @ items.mT), F.temperatures(F.split_views(products), low, high)


def some_scores(anchors=6, negatives=9, heads=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = [
        torch.rand(shape, generator=generator, dtype=torch.float64)
        for shape in ((heads, anchors), (heads, anchors, negatives))
    ]
    return F.PairScores(*(2 * x - 1 for x in draw))


def like(scores, tau):
    return F.PairScores(torch.full_like(scores.positive, tau), torch.full_like(scores.negative, tau))


# The authors' numbers


def test_temperatures_are_the_authors(arrays):
    network, _ = phi(arrays)
    _, tau = two_views(arrays["z1"], arrays["z2"], network, *bounds(arrays))
    expected = F.split_views(arrays["tau_all_Cx2Bx2B"])
    torch.testing.assert_close(tau.positive, expected.positive, **EXACT)
    torch.testing.assert_close(tau.negative, expected.negative, **EXACT)
    torch.testing.assert_close(tau.positive.mT, arrays["tau_pos_2BxC"], **EXACT)


@pytest.mark.parametrize("width", [8, 128])
def test_omega_is_the_authors(arrays, width):
    torch.testing.assert_close(F.omega(arrays["omega_tau"], width), arrays[f"omega_d{width}"], **EXACT)


@pytest.mark.parametrize("top_k", [1, 3, 100])
@pytest.mark.parametrize("beta", ["0.0001", "0.01", "1.0"])
def test_hard_contrast_of_two_views_is_the_authors(arrays, beta, top_k):
    network, parameters = phi(arrays)
    z_a, z_b = (arrays[name].clone().requires_grad_() for name in ("z1", "z2"))
    scores, tau = two_views(z_a, z_b, network, *bounds(arrays))
    loss = F.hard_contrast(scores, tau, float(beta), 8, top_k).sum()
    torch.testing.assert_close(loss, arrays[f"ntxent_loss_beta{beta}_topk{top_k}"], **EXACT)
    printed = F.hard_contrast(scores, tau, float(beta), 8, top_k, as_printed=True).sum()
    torch.testing.assert_close(printed, arrays[f"ntxent_eq21_dprime_negreg_beta{beta}_topk{top_k}"], **EXACT)
    recorded = beta in ("0.0001", "0.01") and top_k == 3
    for name, value in {"z1": z_a, "z2": z_b, **parameters}.items() if recorded else ():
        expected = arrays[f"ntxent_grad_{name}_beta{beta}_topk3"]
        (ours,) = grad(loss, value, retain_graph=True)
        torch.testing.assert_close(
            ours / expected.abs().max(), expected / expected.abs().max(), **PUBLISHED_IN_FLOAT32
        )


@pytest.mark.parametrize("top_k", [1, 5])
@pytest.mark.parametrize("beta", ["0.0001", "0.01"])
def test_hard_contrast_with_a_queue_is_the_authors(arrays, beta, top_k):
    """Both directions against one queue; keys and queue are constants, the query is differentiated in both roles."""
    network, _ = phi(arrays)
    low, high = bounds(arrays)
    raw_query = arrays["moco_q"].clone().requires_grad_()
    query = F.normalize(raw_query.transpose(0, 1))
    key = F.normalize(arrays["moco_k"].transpose(0, 1))
    queue = F.normalize(arrays["moco_queue_CxdxK"].mT).mT
    losses = []
    for anchor, match in ((query, key), (key, query)):
        scores = F.queue_scores(anchor, match, queue)
        products = F.queue_scores(network(anchor), network(match), network(queue.mT).mT)
        losses.append(F.hard_contrast(scores, F.temperatures(products, low, high), float(beta), 8, top_k))
    loss = (losses[0] + losses[1]).sum() / 2
    torch.testing.assert_close(loss, arrays[f"moco_loss_beta{beta}_topk{top_k}"], **EXACT)
    if top_k == 5:
        expected = arrays[f"moco_grad_q_beta{beta}_topk5"]
        (ours,) = grad(loss, raw_query)
        torch.testing.assert_close(
            ours / expected.abs().max(), expected / expected.abs().max(), **PUBLISHED_IN_FLOAT32
        )


@pytest.mark.parametrize("beta", ["0.0001", "0.01"])
def test_hard_agreement_is_the_authors_simsiam(arrays, beta):
    network, _ = phi(arrays)
    low, high = bounds(arrays)
    raw = {name: arrays[f"simsiam_{name}"].clone().requires_grad_() for name in ("p1", "p2", "z1", "z2")}
    rows = {name: F.normalize(value.transpose(0, 1)) for name, value in raw.items()}
    directions = []
    for prediction, target in (("p1", "z2"), ("p2", "z1")):
        anchor, match = rows[prediction], rows[target].detach()
        products = (network(anchor) * network(match)).sum(-1)
        tau = F.temperatures(F.PairScores(products, products[..., None, :0]), low, high).positive
        directions.append(F.hard_agreement((anchor * match).sum(-1), tau, float(beta), 8))
    loss = torch.stack(directions).mean(0).sum()
    torch.testing.assert_close(loss, arrays[f"simsiam_loss_beta{beta}"], **EXACT)
    for name in ("p1", "p2"):
        expected = arrays[f"simsiam_grad_{name}_beta{beta}"]
        (ours,) = grad(loss, raw[name], retain_graph=True)
        torch.testing.assert_close(
            ours / expected.abs().max(), expected / expected.abs().max(), **PUBLISHED_IN_FLOAT32
        )


@pytest.mark.parametrize("beta", ["1e-06", "0.0001"])
def test_hard_redundancy_reduction_is_the_authors(arrays, beta):
    network, _ = phi(arrays, "bt_")
    z_a, z_b = (arrays[f"bt_{name}"].clone().requires_grad_() for name in ("z1", "z2"))
    heads = [z.transpose(0, 1) for z in (z_a, z_b)]
    products = F.inner_products(network(heads[0].mT), network(heads[1].mT))
    tau = F.temperatures(F.split_diagonal(products), *bounds(arrays))
    expected_tau = F.split_diagonal(arrays["bt_tau_CxDxD"])
    torch.testing.assert_close(tau.positive, expected_tau.positive, **EXACT)
    torch.testing.assert_close(tau.negative, expected_tau.negative, **EXACT)
    items = [F.standardize(z, "unbiased").mT for z in heads]
    scores = F.split_diagonal(F.inner_products(*items) / 8)
    loss = F.hard_redundancy_reduction(scores, tau, 5e-3, float(beta), 6).sum()
    torch.testing.assert_close(loss, arrays[f"bt_loss_beta{beta}"], **WITH_EPSILON)
    for value, name in ((z_a, "z1"), (z_b, "z2")):
        expected = arrays[f"bt_grad_{name}_beta{beta}"]
        (ours,) = grad(loss, value, retain_graph=True)
        torch.testing.assert_close(
            ours / expected.abs().max(), expected / expected.abs().max(), **PUBLISHED_IN_FLOAT32
        )


@pytest.mark.parametrize("range_", [(1e-5, 2.0), (0.05, 0.5)])
@pytest.mark.parametrize("beta", [0.0, 0.0001, 0.01, 1.0])
def test_soft_contrast_is_the_derived_one(arrays, beta, range_):
    expected = golden("amcl_soft_derived")
    network, _ = phi(arrays)
    z_a, z_b = (arrays[name].clone().requires_grad_() for name in ("z1", "z2"))
    scores, tau = two_views(z_a, z_b, network, *range_)
    loss = F.soft_contrast(scores, tau, beta, 8).sum()
    name = f"beta{beta}_tau[{range_[0]},{range_[1]}]"
    torch.testing.assert_close(loss, expected[f"loss_{name}"], **EXACT)
    for ours, side in zip(grad(loss, (z_a, z_b)), ("z1", "z2"), strict=True):
        torch.testing.assert_close(ours, expected[f"grad_{side}_{name}"], **EXACT)


# Laws


def test_temperatures_keep_their_range_and_fall_with_agreement():
    products = torch.linspace(-50, 50, 101, dtype=torch.float64)
    tau = F.temperatures(F.PairScores(products, products[:, None]), 0.05, 1.0)
    assert torch.equal(tau.positive, tau.negative[:, 0])
    assert (tau.positive.diff() <= 0).all() and tau.positive[50] == pytest.approx(0.525)
    assert tau.positive[0] == pytest.approx(1.0) and tau.positive[-1] == pytest.approx(0.05)
    assert tau.positive.min() >= 0.05 and tau.positive.max() <= 1.0


@pytest.mark.parametrize("width", [2, 8, 128])
def test_omega_is_least_at_two_over_the_width(width):
    tau = torch.tensor(2 / width, dtype=torch.float64, requires_grad=True)
    (slope,) = grad(F.omega(tau, width), tau)
    assert slope.abs() < 1e-12
    assert F.omega(tau * 0.9, width) > F.omega(tau, width) < F.omega(tau * 1.1, width)


def test_with_beta_one_the_matchs_best_temperature_is_its_variance():
    similarity = torch.tensor([0.9, 0.2, -0.6], dtype=torch.float64)
    scores = F.PairScores(similarity, torch.zeros(3, 1).double())
    tau = (2 * (1 - similarity) / 8).requires_grad_()
    loss = F.hard_contrast(scores, F.PairScores(tau, torch.ones(3, 1).double()), 1.0, 8)
    (slope,) = grad(loss, tau)
    assert slope.abs().max() < 1e-12


def test_soft_contrast_is_never_negative_and_plain_at_a_constant_temperature():
    scores = some_scores()
    for seed in range(5):
        draws = some_scores(seed=seed + 1)
        tau = F.PairScores(draws.positive.abs() + 0.01, draws.negative.abs() + 0.01)
        for beta in (0.0, 0.01, 1.0, 10.0):
            assert (F.soft_contrast(scores, tau, beta, 8) >= 0).all()
    for beta in (0.0, 1.0):
        torch.testing.assert_close(
            F.soft_contrast(scores, like(scores, 0.2), beta, 8), F.info_nce(scores, 0.2), **EXACT
        )


def test_published_constants_make_the_hard_contrast_unbounded_and_not_the_soft_one():
    scores = some_scores()
    hard = [F.hard_contrast(scores, like(scores, tau), 1e-4, 8, 100).sum().item() for tau in (1e-2, 1e-4, 1e-6)]
    assert hard[0] > hard[1] > hard[2] and hard[2] < -100 * abs(hard[1]) / 2
    soft = [F.soft_contrast(scores, like(scores, tau), 1e-4, 8).sum().item() for tau in (1e-2, 1e-4, 1e-6)]
    assert min(soft) >= 0


def test_the_hardest_negatives_are_chosen_by_similarity_and_bring_their_own_temperature():
    scores = F.PairScores(torch.tensor([0.5]), torch.tensor([[0.1, 0.8, 0.3]]))
    tau = F.PairScores(torch.tensor([1.0]), torch.tensor([[0.01, 2.0, 0.5]]))  # s / tau would choose the first
    loss = F.hard_contrast(scores, tau, 0.0, 8, top_k=1)
    torch.testing.assert_close(loss, torch.tensor(-0.5 + 0.8 / 2.0))
    loss = F.hard_contrast(scores, tau, 0.0, 8, top_k=2)
    torch.testing.assert_close(loss, torch.tensor(-0.5 + (0.8 / 2.0 + 0.3 / 0.5) / 2))


def test_soft_redundancy_reduction_without_beta_and_at_one_is_barlow_twins():
    scores = some_scores(anchors=6, negatives=5)
    torch.testing.assert_close(
        F.soft_redundancy_reduction(scores, like(scores, 1.0), 0.3, 0.7), F.redundancy_reduction(scores, None, 0.3)
    )


def test_best_temperatures_of_the_soft_forms_are_inside_and_bounded_below():
    scores, beta = some_scores(anchors=6, negatives=5), 0.01
    best = F.PairScores((1 - scores.positive).square() / beta, scores.negative.square() / beta)
    best = F.PairScores(*(tau.clone().requires_grad_() for tau in best))
    loss = F.soft_redundancy_reduction(scores, best, 0.3, beta)
    slopes = grad(loss.sum(), best)
    assert all((slope * tau).abs().max() < 1e-12 for slope, tau in zip(slopes, best, strict=True))

    tau = ((1 - scores.positive) / beta).requires_grad_()
    loss = F.soft_agreement(scores.positive, tau, beta)
    (slope,) = grad(loss.sum(), tau)
    assert (slope * tau).abs().max() < 1e-12
    worst = F.soft_agreement(torch.ones(3).double(), torch.full((3,), 0.05).double(), beta)
    assert worst == pytest.approx(beta * math.log(0.05))


def test_equal_heads_cost_as_often_as_they_are(arrays):
    scores = some_scores(heads=1)
    draws = some_scores(heads=1, seed=3)
    tau = F.PairScores(draws.positive.abs() + 0.05, draws.negative.abs() + 0.05)
    for form in (
        lambda s, t: F.soft_contrast(s, t, 0.01, 8),
        lambda s, t: F.hard_contrast(s, t, 0.01, 8, 3),
        lambda s, t: F.soft_redundancy_reduction(s, t, 0.1, 0.01),
        lambda s, t: F.hard_redundancy_reduction(s, t, 0.1, 0.01, 8),
        lambda s, t: F.soft_agreement(s.positive, t.positive, 0.01),
        lambda s, t: F.hard_agreement(s.positive, t.positive, 0.01, 8),
    ):
        many = form(*(F.PairScores(*(x.expand(4, *x.shape[1:]) for x in pair)) for pair in (scores, tau)))
        assert many.shape == (4,)
        torch.testing.assert_close(many.sum(), 4 * form(scores, tau).sum(), **EXACT)
