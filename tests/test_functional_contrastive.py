"""Contrast of images against published numbers, against its definition, and in its laws."""

import math
from contextlib import nullcontext

import pytest
import torch
from conftest import LargestTensor, golden
from torch.autograd import grad, gradcheck

from hf_ssl import functional as F
from hf_ssl.functional import contrastive, precision

EXACT = {"rtol": 1e-9, "atol": 1e-10}
PUBLISHED_IN_FLOAT32 = {"rtol": 1e-6, "atol": 1e-6}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def embeddings(*shape, count=2):
    common = normal(*shape)
    return [(common + 0.7 * normal(*shape, seed=seed)).requires_grad_() for seed in range(1, count + 1)]


def raw(arrays, *names):
    return [arrays[name].double().requires_grad_() for name in names]


# Published numbers


@pytest.mark.parametrize("shape", [None, (), (1, 1)])
@pytest.mark.parametrize("temperature", ["0.5", "0.1", "0.2"])
def test_nt_xent_is_the_published_one(temperature, shape):
    arrays = golden("simclr_ntxent")
    z_a, z_b = raw(arrays, "z1", "z2")
    number = float(temperature)
    tau = number if shape is None else torch.full(shape, number, dtype=torch.float64)
    loss = F.nt_xent(z_a, z_b, tau)
    torch.testing.assert_close(loss, arrays[f"loss_tau{temperature}"], **EXACT)
    torch.testing.assert_close(2 * loss, arrays[f"google_sum_loss_tau{temperature}"], **EXACT)
    for ours, name in zip(grad(loss, (z_a, z_b)), ("z1", "z2"), strict=True):
        torch.testing.assert_close(ours, arrays[f"grad_{name}_tau{temperature}"], **EXACT)


def test_moco_is_the_published_one_and_leaves_keys_and_queue_alone():
    arrays = golden("moco")
    query, key, queue = raw(arrays, "q_raw", "k_raw", "queue_dimxK")
    temperature = arrays["T"].item()
    loss = F.moco(query, key, queue, temperature)
    torch.testing.assert_close(loss, arrays["loss"].double(), **PUBLISHED_IN_FLOAT32)
    gradients = grad(loss, (query, key, queue), allow_unused=True)
    torch.testing.assert_close(gradients[0], arrays["grad_q_raw"].double(), **PUBLISHED_IN_FLOAT32)
    assert gradients[1:] == (None, None)


def test_moco_scores_over_the_temperature_are_the_published_logits():
    arrays = golden("moco")
    query, key, queue = (arrays[name].double() for name in ("q_raw", "k_raw", "queue_dimxK"))
    scores = F.queue_scores(F.normalize(query), F.normalize(key), queue)
    positive, negative = F.logits(scores, arrays["T"].item())
    ours = torch.cat([positive[:, None], negative], dim=1)
    torch.testing.assert_close(ours, arrays["logits"].double(), **PUBLISHED_IN_FLOAT32)


def test_moco_v3_is_the_published_one_and_leaves_keys_alone():
    arrays = golden("moco")
    inputs = raw(arrays, "v3_q1", "v3_q2", "v3_k1", "v3_k2")
    loss = F.moco_v3(*inputs, arrays["v3_T"].item())
    torch.testing.assert_close(loss, arrays["v3_loss"], **EXACT)
    gradients = grad(loss, inputs, allow_unused=True)
    for ours, name in zip(gradients[:2], ("q1", "q2"), strict=True):
        torch.testing.assert_close(ours, arrays[f"v3_grad_{name}"], **EXACT)
    assert gradients[2:] == (None, None)


def test_simsiam_is_minus_the_cosine_of_torch_and_stops_at_the_targets():
    inputs = embeddings(2, 5, 7, count=4)
    loss = F.simsiam(*inputs)
    prediction_a, prediction_b, z_a, z_b = inputs
    cosine = torch.nn.functional.cosine_similarity
    expected = -(cosine(prediction_a, z_b.detach(), dim=-1) + cosine(prediction_b, z_a.detach(), dim=-1)).mean(-1) / 2
    torch.testing.assert_close(loss, expected, **EXACT)
    gradients = grad(loss.sum(), inputs, allow_unused=True)
    torch.testing.assert_close(gradients[:2], grad(expected.sum(), inputs[:2]), **EXACT)
    assert gradients[2:] == (None, None)


# Definitions


@pytest.mark.parametrize("block", [1, 7, 40, 2**19])
@pytest.mark.parametrize("shape", [(4, 6), (9, 3), (3, 4, 6), (2, 2, 3, 5)])
def test_blocks_of_anchors_equal_the_definition(monkeypatch, shape, block):
    monkeypatch.setattr(contrastive, "BLOCK_ENTRIES", block)
    z_a, z_b = embeddings(*shape)
    fast = F.nt_xent(z_a, z_b, 0.3)
    items = F.normalize(torch.cat([z_a, z_b], dim=-2))
    defined = F.info_nce(F.split_views(F.inner_products(items, items)), 0.3)
    assert fast.shape == defined.shape == shape[:-2]
    torch.testing.assert_close(fast, defined, **EXACT)
    weights = normal(*shape[:-2], seed=9)
    ours, theirs = (grad((weights * loss).sum(), (z_a, z_b)) for loss in (fast, defined))
    torch.testing.assert_close(ours, theirs, **EXACT)
    with torch.no_grad():
        torch.testing.assert_close(F.nt_xent(z_a, z_b, 0.3), fast, **EXACT)


def test_the_cross_entropy_is_that_of_torch():
    scores = F.PairScores(normal(2, 5), normal(2, 5, 8, seed=1))
    joined = torch.cat([scores.positive[..., None], scores.negative], dim=-1) / 0.2
    expected = torch.nn.functional.cross_entropy(joined.flatten(0, 1), torch.zeros(10, dtype=torch.int64))
    torch.testing.assert_close(F.info_nce(scores, 0.2).mean(), expected, **EXACT)
    tau = F.PairScores(*(torch.full_like(each, 0.2) for each in scores))
    torch.testing.assert_close(F.info_nce(scores, tau), F.info_nce(scores, 0.2), **EXACT)
    torch.testing.assert_close(F.info_nce(scores, 1.0), F.info_nce(scores, None), **EXACT)


def test_two_views_are_parted_into_partners_and_other_images():
    batch = 3
    matrix = torch.arange(36).view(6, 6)
    positive, negative = F.split_views(matrix)
    for row in range(2 * batch):
        partner = (row + batch) % (2 * batch)
        others = {int(matrix[row, column]) for column in range(6) if column not in (row, partner)}
        assert positive[row] == matrix[row, partner]
        assert set(negative[row].tolist()) == others and len(negative[row]) == len(others)


def test_temperatures_of_pairs_reach_their_own_pair_and_have_gradients():
    z_a, z_b = embeddings(2, 3, 4)
    tau = (0.2 + normal(2, 6, 6, seed=5).abs()).requires_grad_()
    loss = F.nt_xent(z_a, z_b, tau)
    items = torch.nn.functional.normalize(torch.cat([z_a, z_b], dim=-2), dim=-1)
    scaled = (items @ items.mT / tau).masked_fill(torch.eye(6, dtype=torch.bool), -math.inf)
    targets = torch.arange(6).roll(3).expand(2, 6)
    expected = torch.nn.functional.cross_entropy(scaled.flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(loss, expected.view(2, 6).mean(-1), **EXACT)
    torch.testing.assert_close(
        grad(loss.sum(), (z_a, z_b, tau), retain_graph=True), grad(expected.sum() / 6, (z_a, z_b, tau)), **EXACT
    )
    per_head = torch.tensor([0.2, 0.5], dtype=torch.float64)[:, None, None]
    apart = torch.stack([F.nt_xent(z_a[head], z_b[head], (0.2, 0.5)[head]) for head in (0, 1)])
    torch.testing.assert_close(F.nt_xent(z_a, z_b, per_head), apart, **EXACT)


@pytest.mark.parametrize("shape", [(), (1, 1)])
def test_one_temperature_as_a_tensor_gets_its_gradient(shape):
    """Bug: a learned temperature that is taken for a number, and never moves."""
    z_a, z_b = embeddings(2, 3, 4)
    tau = torch.full(shape, 0.3, dtype=torch.float64, requires_grad=True)
    losses = F.nt_xent(z_a, z_b, tau)
    torch.testing.assert_close(losses, F.nt_xent(z_a, z_b, 0.3), **EXACT)
    *ours, slope = grad(losses.sum(), (z_a, z_b, tau))
    torch.testing.assert_close(tuple(ours), grad(F.nt_xent(z_a, z_b, 0.3).sum(), (z_a, z_b)), **EXACT)
    step = 1e-6
    rise = F.nt_xent(z_a, z_b, 0.3 + step).sum() - F.nt_xent(z_a, z_b, 0.3 - step).sum()
    torch.testing.assert_close(slope.sum(), rise.detach() / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("temperature", [torch.tensor(0.3), torch.tensor(0.3, requires_grad=True), torch.ones(8, 8)])
def test_a_temperature_from_another_device_is_brought_to_the_embeddings(monkeypatch, temperature):
    monkeypatch.setattr(precision, "without_autocast", lambda _: nullcontext())  # the meta device knows none
    z_a, z_b = (torch.empty(2, 4, 3, device="meta", requires_grad=True) for _ in range(2))
    loss = F.nt_xent(z_a, z_b, temperature)
    assert loss.device.type == "meta" and loss.shape == (2,)


def test_gradients_pass_the_numerical_check():
    inputs = embeddings(2, 4, 3, count=4)
    queue = F.normalize(normal(2, 9, 3)).mT
    assert gradcheck(lambda a, b: F.nt_xent(a, b, 0.3), inputs[:2])
    assert gradcheck(lambda q: F.moco(q, inputs[1], queue, 0.3), inputs[:1])
    assert gradcheck(lambda a, b: F.moco_v3(a, b, *inputs[2:], 0.3), inputs[:2])
    assert gradcheck(lambda a, b: F.simsiam(a, b, *inputs[2:]), inputs[:2])


# Laws


@pytest.mark.parametrize("temperature", [0.3, torch.tensor(0.3), torch.tensor([[0.3]])])
def test_length_of_the_embeddings_and_order_of_images_change_nothing(temperature):
    z_a, z_b = embeddings(5, 4)
    loss = F.nt_xent(z_a, z_b, temperature)
    scale, order = normal(5, 1, seed=3).abs() + 0.5, torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(F.nt_xent(z_a * scale, z_b / scale, temperature), loss, **EXACT)
    torch.testing.assert_close(F.nt_xent(z_a[order], z_b[order], temperature), loss, **EXACT)
    torch.testing.assert_close(F.nt_xent(z_b, z_a, temperature), loss, **EXACT)


def test_a_collapsed_batch_costs_the_logarithm_of_the_candidates():
    z = normal(1, 4).expand(8, 4)
    torch.testing.assert_close(F.nt_xent(z, z, 0.1), torch.tensor(math.log(15)).double())
    queue = F.normalize(z[:1]).mT.expand(4, 32)
    torch.testing.assert_close(F.moco(z, z, queue, 0.1), torch.tensor(math.log(33)).double())
    torch.testing.assert_close(F.moco_v3(z, z, z, z, 0.1), torch.tensor(2 * 0.2 * math.log(8)).double())
    torch.testing.assert_close(F.simsiam(z, z, z, z), torch.tensor(-1.0).double())


def test_directions_of_moco_v3_do_not_see_each_others_keys():
    """Stacking them along the batch would double the negatives; it is the sum of both directions alone."""
    query_a, query_b, key_a, key_b = embeddings(6, 4, count=4)
    total = F.moco_v3(query_a, query_b, key_a, key_b, 0.2)
    alone = [
        F.info_nce(F.split_diagonal(F.normalize(query) @ F.normalize(key).mT), 0.2)
        for query, key in ((query_a, key_b), (query_b, key_a))
    ]
    torch.testing.assert_close(total, 2 * 0.2 * sum(alone), **EXACT)


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 100.0])
def test_float32_stays_finite_and_true_at_extreme_temperatures(temperature):
    z_a, z_b = (z.detach().float().requires_grad_() for z in embeddings(16, 8))
    loss = F.nt_xent(z_a, z_b, temperature)
    exact = F.nt_xent(z_a.double(), z_b.double(), temperature)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=1e-6)
    assert all(gradient.isfinite().all() for gradient in grad(loss, (z_a, z_b)))


CALLS = {
    "nt_xent": (2, lambda a, b: F.nt_xent(a, b, 0.2)),
    "nt_xent of pairs": (2, lambda a, b: F.nt_xent(a, b, torch.tensor([[0.2]]))),
    "moco": (3, lambda q, k, bank: F.moco(q, k, F.normalize(bank).mT, 0.2)),
    "moco_v3": (4, lambda *z: F.moco_v3(*z, 0.2)),
    "simsiam": (4, F.simsiam),
}


@pytest.mark.parametrize("name", CALLS)
def test_autocast_changes_no_bit_of_loss_or_gradient(name):
    count, function = CALLS[name]
    inputs = [z.detach().float().requires_grad_() for z in embeddings(8, 6, count=count)]

    def run():
        loss = function(*inputs)
        return [loss, *grad(loss, inputs[:1])]

    plain = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run()
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_half_precision_embeddings_give_the_float32_loss(name):
    count, function = CALLS[name]
    inputs = [z.detach().bfloat16() for z in embeddings(8, 6, count=count)]
    loss = function(*inputs)
    assert loss.dtype == torch.float32 and torch.equal(loss, function(*(z.float() for z in inputs)))


@pytest.mark.parametrize("temperature", [0.2, torch.tensor(0.2)])
def test_memory_grows_with_the_batch_and_not_its_square(monkeypatch, temperature):
    monkeypatch.setattr(contrastive, "BLOCK_ENTRIES", 2 * 1024)
    z_a, z_b = (z.detach().requires_grad_() for z in embeddings(256, 4))
    with LargestTensor() as largest:
        F.nt_xent(z_a, z_b, temperature).backward()
    assert largest.entries == 512 * 4


def test_a_second_derivative_is_refused_and_not_wrong():
    z_a, z_b = embeddings(4, 3)
    loss = F.nt_xent(z_a, z_b, 0.2)
    (first,) = grad(loss, z_a, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivative only"):
        (loss + first.square().sum()).backward()


def test_embeddings_that_do_not_pair_up_are_refused():
    z, other = normal(4, 8), normal(4, 6)
    for call in (
        lambda: F.nt_xent(z, other, 0.1),
        lambda: F.moco(z, other, z, 0.1),
        lambda: F.simsiam(z, z, z, z[:2]),
    ):
        with pytest.raises(ValueError, match="one shape"):
            call()


@pytest.mark.parametrize("shape", [(16, 40), (1, 16, 40), (2, 16, 40), (3, 8, 40), (3, 40, 16), (40,)])
def test_a_queue_that_does_not_fit_the_queries_is_refused(shape):
    """Bug: one queue that broadcasts over three heads."""
    query, key = embeddings(3, 8, 16)
    assert F.moco(query, key, normal(3, 16, 40), 0.2).shape == (3,)
    with pytest.raises(ValueError, match=r"queue \(.*40.*\) does not fit query \(3, 8, 16\)"):
        F.moco(query, key, normal(*shape), 0.2)


@pytest.mark.parametrize("temperature", [0, 0.0, -0.1, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    z = normal(4, 8)
    for call in (
        lambda: F.nt_xent(z, z, temperature),
        lambda: F.moco(z, z, z.mT, temperature),
        lambda: F.moco_v3(z, z, z, z, temperature),
    ):
        with pytest.raises(ValueError, match=f"temperature must be positive, but is {temperature}"):
            call()
