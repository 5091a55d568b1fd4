"""Barlow Twins and its mix term against published numbers, against their definitions, and in their laws."""

import pytest
import torch
from conftest import LargestTensor, golden
from torch.autograd import grad, gradcheck

from hf_ssl import functional as F
from hf_ssl.functional import relations

EXACT = {"rtol": 1e-9, "atol": 1e-10}
SHAPES = [(8, 16), (16, 8), (6, 8), (3, 8, 16), (3, 16, 8), (2, 3, 5, 24), (2, 2, 9, 4)]
FLAVOURS = [("biased", False), ("unbiased", False), ("biased", True), ("unbiased", True)]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def embeddings(*shape, count=2):
    """Related views, so that no term is near its value for noise."""
    common = normal(*shape)
    return [(common + 0.7 * normal(*shape, seed=seed) + 2).requires_grad_() for seed in range(1, count + 1)]


def raw(arrays, *names):
    return [arrays[name].double().requires_grad_() for name in names]


def correlation(z_a, z_b, standardization="biased", normalize=False):
    """C as printed, the whole matrix, from torch's own pieces."""

    def columns(z):
        z = torch.nn.functional.normalize(z, dim=-1) if normalize else z
        variance = z.var(-2, keepdim=True, correction=int(standardization == "unbiased"))
        return (z - z.mean(-2, keepdim=True)) / (variance + (standardization == "biased") * 1e-5).sqrt()

    return columns(z_a).mT @ columns(z_b) / z_a.shape[-2]


def printed_consistency(z_mix, z_a, z_b, alpha, permutation, target, standardization="biased", normalize=False):
    """R as printed: the correlations of the mix against the mix of correlations."""
    # Standardizing ignores the order of rows, so a permuted view is standardized like the view.
    shuffled, total = z_b[..., permutation, :], 0
    for reference, source in ((z_a, z_a), (z_b, z_a if target == "ab" else z_b)):

        def relate(z, reference=reference):
            return correlation(z, reference, standardization, normalize)

        difference = relate(z_mix) - alpha * relate(source) - (1 - alpha) * relate(shuffled)
        total = total + difference.square().sum((-2, -1))
    return total


# Published numbers


@pytest.mark.parametrize("weight", ["0.0051", "0.005"])
def test_loss_and_gradients_of_the_published_code(weight):
    arrays = golden("barlow_twins_8x16")
    z_a, z_b = raw(arrays, "z1", "z2")
    loss = F.barlow_twins(z_a, z_b, float(weight))
    torch.testing.assert_close(loss, arrays[f"fb_loss_lambd{weight}_f64"], **EXACT)
    for ours, name in zip(grad(loss, (z_a, z_b)), ("z1", "z2"), strict=True):
        torch.testing.assert_close(ours, arrays[f"fb_grad_{name}_lambd{weight}"], **EXACT)


def test_loss_and_gradients_of_the_published_algorithm_with_unbiased_deviation():
    arrays = golden("barlow_twins_8x16")
    z_a, z_b = raw(arrays, "z1", "z2")
    loss = F.barlow_twins(z_a, z_b, 0.0051, standardization="unbiased")
    torch.testing.assert_close(loss, arrays["manual_loss"], **EXACT)
    for ours, name in zip(grad(loss, (z_a, z_b)), ("z1", "z2"), strict=True):
        torch.testing.assert_close(ours, arrays[f"manual_grad_{name}"], **EXACT)


def test_published_numbers_in_float32():
    arrays = golden("barlow_twins_8x16")
    z_a, z_b = (arrays[name].requires_grad_() for name in ("z1", "z2"))
    loss = F.barlow_twins(z_a, z_b, 0.0051)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), arrays["fb_loss_lambd0.0051_f64"], rtol=2e-4, atol=0)
    for ours, name in zip(grad(loss, (z_a, z_b)), ("z1", "z2"), strict=True):
        torch.testing.assert_close(ours.double(), arrays[f"fb_grad_{name}_lambd0.0051"], rtol=1e-3, atol=1e-5)


def test_the_two_terms_are_the_published_ones():
    arrays = golden("barlow_twins_8x16")
    z_a, z_b = raw(arrays, "z1", "z2")
    invariance = F.barlow_twins(z_a, z_b, 0.0)
    torch.testing.assert_close(invariance, arrays["fb_on_diag"], **EXACT)
    torch.testing.assert_close(F.barlow_twins(z_a, z_b, 1.0) - invariance, arrays["fb_off_diag"], **EXACT)


def test_identical_views_keep_the_cost_of_the_unbiased_deviation():
    arrays = golden("barlow_twins_8x16")
    z = arrays["z1"].double()
    torch.testing.assert_close(
        F.barlow_twins(z, z, 0.0, "unbiased"), arrays["identical_views_manual_on_diag"], **EXACT
    )


def test_mix_term_of_the_published_imagenet_code():
    arrays = golden("mixbt_8x16")
    z_a, z_b, z_mix = raw(arrays, "z1", "z2", "zm")
    objective = F.barlow_twins(z_a, z_b, 0.0051, "unbiased")
    consistency = F.mix_consistency(
        z_mix, z_a, z_b, arrays["lam"], arrays["perm"], target="bb", standardization="unbiased"
    )
    regulariser = 0.5 * 0.0051 * consistency
    torch.testing.assert_close(objective, arrays["imagenet_loss_bt"], **EXACT)
    torch.testing.assert_close(consistency, arrays["imagenet_sq_frob_sum"], **EXACT)
    torch.testing.assert_close(regulariser, arrays["imagenet_loss_reg_unscaled"], **EXACT)
    for loss, kind in ((regulariser, "reg"), (objective + regulariser, "total")):
        gradients = grad(loss, (z_a, z_b, z_mix), retain_graph=True)
        for ours, name in zip(gradients, ("z1", "z2", "zm"), strict=True):
            torch.testing.assert_close(ours, arrays[f"imagenet_{kind}_grad_{name}"], **EXACT)


@pytest.mark.parametrize("embeddings_as", ["raw", "l2"])
def test_mix_term_of_the_published_small_image_code(embeddings_as):
    """The code scales rows to unit length in the model; the gradients of both sides of that step are recorded."""
    arrays = golden("mixbt_8x16")
    names = ("z1", "z2", "zm") if embeddings_as == "raw" else ("small_l2_z1", "small_l2_z2", "small_l2_zm")
    z_a, z_b, z_mix = raw(arrays, *names)
    weight, options = arrays["small_lmbda"].item(), ("unbiased", embeddings_as == "raw")
    objective = F.barlow_twins(z_a, z_b, weight, *options)
    consistency = F.mix_consistency(z_mix, z_a, z_b, arrays["lam"].item(), arrays["perm"], "ab", *options)
    mix = arrays["small_mixup_loss_scale"] * weight * consistency
    torch.testing.assert_close(objective, arrays["small_loss_bt"], **EXACT)
    torch.testing.assert_close(mix, arrays["small_loss_mix"], **EXACT)
    torch.testing.assert_close(objective + mix, arrays["small_total"], **EXACT)
    gradients = grad(objective + mix, (z_a, z_b, z_mix))
    for ours, name in zip(gradients, ("z1", "z2", "zm"), strict=True):
        torch.testing.assert_close(ours, arrays[f"small_total_grad_{embeddings_as}_{name}"], **EXACT)


# Definitions


@pytest.mark.parametrize(("standardization", "normalize"), FLAVOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_fast_barlow_twins_equals_its_definition(shape, standardization, normalize):
    z_a, z_b = embeddings(*shape)
    fast = F.barlow_twins(z_a, z_b, 0.3, standardization, normalize)
    items = [F.standardize(F.normalize(z) if normalize else z, standardization).mT for z in (z_a, z_b)]
    scores = F.split_diagonal(F.inner_products(*items) / shape[-2])
    defined = F.redundancy_reduction(scores, None, 0.3)
    assert fast.shape == defined.shape == shape[:-2]
    torch.testing.assert_close(fast, defined, **EXACT)
    weights = normal(*shape[:-2], seed=9)
    ours, theirs = (grad((weights * loss).sum(), (z_a, z_b)) for loss in (fast, defined))
    torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("target", ["ab", "bb"])
@pytest.mark.parametrize(("standardization", "normalize"), FLAVOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_fast_mix_term_equals_its_definition(shape, standardization, normalize, target):
    z_mix, z_a, z_b = embeddings(*shape, count=3)
    permutation = torch.randperm(shape[-2], generator=torch.Generator().manual_seed(3))
    arguments = (z_mix, z_a, z_b, torch.tensor(0.3, dtype=torch.float64), permutation, target)
    fast = F.mix_consistency(*arguments, standardization, normalize)
    printed = printed_consistency(*arguments, standardization, normalize)
    assert fast.shape == shape[:-2]
    torch.testing.assert_close(fast, printed, **EXACT)
    weights = normal(*shape[:-2], seed=9)
    ours, theirs = (grad((weights * loss).sum(), (z_mix, z_a, z_b)) for loss in (fast, printed))
    torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("shape", [(8, 64), (64, 8)])
def test_no_matrix_of_the_larger_side_is_ever_formed(shape):
    z_mix, z_a, z_b = (z.detach().requires_grad_() for z in embeddings(*shape, count=3))
    permutation = torch.arange(shape[0]).flip(0)
    with LargestTensor() as largest:
        loss = F.barlow_twins(z_a, z_b, 0.1) + F.mix_consistency(z_mix, z_a, z_b, 0.3, permutation, "bb")
        loss.backward()
        F.cross_correlation_readings(z_a, z_b)
        F.effective_rank(z_a)
    assert largest.entries == 8 * 64


@pytest.mark.parametrize("shape", [(9, 16), (16, 5)])
def test_sums_taken_a_few_rows_at_a_time_are_the_same(monkeypatch, shape):
    z_a, z_b = embeddings(*shape)
    whole = F.barlow_twins(z_a, z_b, 0.1, "unbiased", True)
    monkeypatch.setattr(relations, "CHUNK_ENTRIES", 2 * shape[1])
    chunked = F.barlow_twins(z_a, z_b, 0.1, "unbiased", True)
    torch.testing.assert_close(chunked, whole, **EXACT)
    torch.testing.assert_close(grad(chunked, (z_a, z_b)), grad(whole, (z_a, z_b)), **EXACT)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (2, 4, 6)])
def test_gradients_pass_the_numerical_check(shape):
    z_mix, z_a, z_b = embeddings(*shape, count=3)
    permutation = torch.randperm(shape[-2], generator=torch.Generator().manual_seed(3))
    assert gradcheck(lambda a, b: F.barlow_twins(a, b, 0.1, "unbiased", True), (z_a, z_b))
    for target in ("ab", "bb"):
        assert gradcheck(
            lambda m, a, b, target=target: F.mix_consistency(m, a, b, 0.4, permutation, target), (z_mix, z_a, z_b)
        )


def test_a_second_derivative_is_refused_and_not_wrong():
    z_a, z_b = embeddings(4, 8)
    loss = F.barlow_twins(z_a, z_b, 0.1)
    (first,) = grad(loss, z_a, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivative only"):
        (loss + first.square().sum()).backward()


def test_the_same_graph_gives_the_same_gradient_twice():
    for shape in ((4, 8), (8, 4)):
        z_a, z_b = embeddings(*shape)
        loss = F.barlow_twins(z_a, z_b, 0.1)
        first, second = (grad(loss, (z_a, z_b), retain_graph=True) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("shape", [(4, 8), (8, 4)])
def test_inputs_are_left_as_they_were_and_no_gradient_needs_no_graph(shape):
    z_mix, z_a, z_b = embeddings(*shape, count=3)
    before = [z.detach().clone() for z in (z_mix, z_a, z_b)]
    permutation = torch.arange(shape[0]).flip(0)
    losses = [F.barlow_twins(z_a, z_b, 0.1), F.mix_consistency(z_mix, z_a, z_b, 0.3, permutation, "bb")]
    sum(losses).backward()
    with torch.no_grad():
        again = [F.barlow_twins(z_a, z_b, 0.1), F.mix_consistency(z_mix, z_a, z_b, 0.3, permutation, "bb")]
    torch.testing.assert_close(again, [loss.detach() for loss in losses], **EXACT)
    assert not any(loss.requires_grad for loss in again)
    assert all(torch.equal(z, was) for z, was in zip((z_mix, z_a, z_b), before, strict=True))


def test_temperatures_divide_matches_inside_and_others_outside_the_square():
    scores = F.PairScores(torch.tensor([0.5, 0.2]), torch.tensor([[0.3], [0.1]]))
    tau = F.PairScores(torch.tensor([0.5, 2.0]), torch.tensor([[0.5], [0.1]]))
    expected = (1 - 1.0) ** 2 + (1 - 0.1) ** 2 + 0.01 * (0.09 / 0.5 + 0.01 / 0.1)
    torch.testing.assert_close(F.redundancy_reduction(scores, tau, 0.01), torch.tensor(expected))
    constant = F.PairScores(torch.full((2,), 0.4), torch.full((2, 1), 0.4))
    assert F.redundancy_reduction(scores, 0.4, 0.01) == F.redundancy_reduction(scores, constant, 0.01)
    assert F.redundancy_reduction(scores, 1.0, 0.01) == F.redundancy_reduction(scores, None, 0.01)


# Laws


@pytest.mark.parametrize("shape", [(8, 16), (16, 8)])
def test_scale_and_shift_of_a_column_change_nothing(shape):
    z_a, z_b = embeddings(*shape)
    scale, shift = normal(shape[1], seed=5).abs() + 0.5, normal(shape[1], seed=6) * 10
    for arguments in ((0.1, "unbiased"), (0.0, "unbiased")):
        moved = F.barlow_twins(z_a * scale + shift, z_b / scale - shift, *arguments)
        torch.testing.assert_close(moved, F.barlow_twins(z_a, z_b, *arguments), **EXACT)
    moved = F.barlow_twins(z_a * scale + shift, z_b, 0.1)  # the epsilon of "biased" is seen, but only just
    torch.testing.assert_close(moved, F.barlow_twins(z_a, z_b, 0.1), rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(8, 16), (16, 8)])
def test_order_of_the_images_changes_nothing(shape):
    z_mix, z_a, z_b = embeddings(*shape, count=3)
    order = torch.randperm(shape[0], generator=torch.Generator().manual_seed(1))
    permutation = torch.randperm(shape[0], generator=torch.Generator().manual_seed(2))
    carried = order.argsort()[permutation[order]]
    torch.testing.assert_close(F.barlow_twins(z_a[order], z_b[order], 0.1), F.barlow_twins(z_a, z_b, 0.1), **EXACT)
    torch.testing.assert_close(
        F.mix_consistency(z_mix[order], z_a[order], z_b[order], 0.3, carried),
        F.mix_consistency(z_mix, z_a, z_b, 0.3, permutation),
        **EXACT,
    )


def test_views_are_interchangeable():
    z_a, z_b = embeddings(8, 16)
    torch.testing.assert_close(F.barlow_twins(z_a, z_b, 0.1), F.barlow_twins(z_b, z_a, 0.1), **EXACT)


@pytest.mark.parametrize("shape", [(8, 16), (16, 8)])
def test_a_mix_that_is_its_first_source_costs_nothing(shape):
    z_a, z_b = embeddings(*shape)
    identity = torch.arange(shape[0])
    assert F.mix_consistency(z_a, z_a, z_b, 1.0, identity, "ab") == 0
    assert F.mix_consistency(z_a, z_a, z_b, 1.0, identity, "bb") > 1  # view b is not view a


@pytest.mark.parametrize("target", ["ab", "bb"])
@pytest.mark.parametrize("shape", [(8, 16), (16, 8)])
def test_a_mix_that_is_its_second_source_costs_nothing(shape, target):
    z_a, z_b = embeddings(*shape)
    permutation = torch.randperm(shape[0], generator=torch.Generator().manual_seed(2))
    consistency = F.mix_consistency(z_b[permutation], z_a, z_b, torch.tensor(0.0), permutation, target)
    assert consistency.abs() < 1e-20


def test_the_deviations_correlations_differ_by_one_row_in_the_batch():
    for batch in (4, 16):
        z_a, z_b = embeddings(batch, 8)
        unbiased = F.barlow_twins(z_a, z_b, 1.0, "unbiased") - F.barlow_twins(z_a, z_b, 0.0, "unbiased")
        biased = F.barlow_twins(z_a * 1e4, z_b * 1e4, 1.0) - F.barlow_twins(z_a * 1e4, z_b * 1e4, 0.0)
        torch.testing.assert_close(unbiased / biased, torch.tensor(((batch - 1) / batch) ** 2).double())


@pytest.mark.parametrize("standardization", ["biased", "unbiased"])
@pytest.mark.parametrize("width", [4, 32])
def test_a_collapsed_batch_costs_one_for_every_dimension(standardization, width):
    z = normal(1, width, dtype=torch.float32).expand(16, width).clone().requires_grad_()
    loss = F.barlow_twins(z, z.flip(0), 0.0051, standardization)
    loss.backward()
    assert loss.item() == width and z.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(8, 16), (16, 8)])
def test_autocast_changes_no_bit_of_loss_or_gradient(shape):
    z_mix, z_a, z_b = (z.detach().float().requires_grad_() for z in embeddings(*shape, count=3))
    permutation = torch.arange(shape[0]).flip(0)

    def run():
        loss = F.barlow_twins(z_a, z_b, 0.1) + F.mix_consistency(z_mix, z_a, z_b, 0.3, permutation)
        return [loss, *grad(loss, (z_mix, z_a, z_b))]

    plain = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run()
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_give_a_float32_loss_and_half_gradients(half):
    z_mix, z_a, z_b = (z.detach().to(half).requires_grad_() for z in embeddings(8, 16, count=3))
    permutation = torch.arange(8).flip(0)
    loss = F.barlow_twins(z_a, z_b, 0.1) + F.mix_consistency(z_mix, z_a, z_b, 0.3, permutation)
    assert loss.dtype == torch.float32
    assert torch.equal(
        loss,
        F.barlow_twins(z_a.float(), z_b.float(), 0.1)
        + F.mix_consistency(z_mix.float(), z_a.float(), z_b.float(), 0.3, permutation),
    )
    assert all(gradient.dtype == half for gradient in grad(loss, (z_mix, z_a, z_b)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((normal(4, 8), normal(4, 6)), "one shape.*z_a.*z_b"),
        ((normal(2, 4, 8), normal(4, 8)), "one shape"),
    ],
)
def test_embeddings_that_do_not_pair_up_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        F.barlow_twins(*arguments, 0.1)


def test_a_mix_that_makes_no_sense_is_refused():
    z = normal(4, 8)
    with pytest.raises(ValueError, match=r"'ba'.*ab.*bb"):
        F.mix_consistency(z, z, z, 0.3, torch.arange(4), target="ba")
    with pytest.raises(ValueError, match=r"permutation.*\(3,\).*4 rows"):
        F.mix_consistency(z, z, z, 0.3, torch.arange(3))
    with pytest.raises(ValueError, match=r"alpha.*detach"):
        F.mix_consistency(z, z, z, torch.tensor(0.3, requires_grad=True), torch.arange(4))
