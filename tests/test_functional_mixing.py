"""What a mixed view is made of, and how the draw that decides it is distributed."""

import pytest
import torch
from conftest import golden

from hf_ssl import functional as F


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mixed_images_are_those_of_the_published_code():
    arrays = golden("mixbt_8x16")
    for alpha in (arrays["lam"], arrays["lam"].item()):
        mixed = F.mix_views(arrays["mix_x1"], arrays["mix_x2"], alpha, arrays["perm"])
        torch.testing.assert_close(mixed, arrays["mix_xm"], rtol=1e-12, atol=1e-12)


def test_the_ends_of_alpha_are_the_sources_to_the_bit():
    a, b = torch.randn(2, 4, 3, 5, 5, generator=seeded()).unbind()
    permutation = torch.tensor([2, 0, 3, 1])
    assert torch.equal(F.mix_views(a, b, 1.0, permutation), a)
    assert torch.equal(F.mix_views(a, b, 0.0, permutation), b[permutation])


def test_a_float32_alpha_leaves_the_precision_of_the_images():
    views = torch.randn(2, 4, 3, generator=seeded(), dtype=torch.float64)
    assert F.mix_views(*views, torch.tensor(0.3), torch.arange(4)).dtype == torch.float64
    assert F.mix_views(*views.bfloat16(), torch.tensor(0.3), torch.arange(4)).dtype == torch.bfloat16


def test_equal_generators_draw_equal_mixes_and_others_do_not():
    one, same, other = (F.draw_mix(16, 8, seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(one, same, strict=True))
    assert one.alpha != other.alpha and not torch.equal(one.permutation, other.permutation)


def test_a_draw_has_the_shapes_and_types_of_a_mix():
    mix = F.draw_mix(12, 4, seeded(), scale=0.25)
    assert isinstance(mix, F.Mix)
    assert mix.alpha.shape == () and mix.alpha.dtype == torch.float32 and 0 <= mix.alpha < 1
    assert mix.permutation.shape == (12,) and mix.permutation.dtype == torch.int64
    assert mix.scale.shape == () and mix.scale == 0.25
    assert F.draw_mix(12, 4, seeded()).scale == 1


@pytest.mark.parametrize("group", [1, 4, 12])
def test_the_permutation_never_leaves_its_block(group):
    for seed in range(20):
        permutation = F.draw_mix(12, group, seeded(seed)).permutation
        assert permutation.sort().values.tolist() == list(range(12))
        assert torch.equal(permutation // group, torch.arange(12) // group)


def test_blocks_are_permuted_independently():
    draws = [F.draw_mix(8, 4, seeded(seed)).permutation for seed in range(30)]
    assert any(not torch.equal(draw[:4], draw[4:] - 4) for draw in draws)


def test_alpha_and_permutation_are_uniform():
    generator = seeded()
    draws = [F.draw_mix(6, 3, generator) for _ in range(6000)]
    alpha = torch.stack([mix.alpha for mix in draws])
    tenths = torch.histc(alpha, bins=10, min=0, max=1) / len(draws)
    assert (tenths - 0.1).abs().max() < 5 * (0.1 * 0.9 / len(draws)) ** 0.5
    orders = torch.stack([mix.permutation[3:] for mix in draws]) @ torch.tensor([100, 10, 1])
    _, counts = orders.unique(return_counts=True)
    assert len(counts) == 6
    assert (counts / len(draws) - 1 / 6).abs().max() < 5 * (1 / 6 * 5 / 6 / len(draws)) ** 0.5
    correlation = torch.corrcoef(torch.stack([alpha, orders.float()]))[0, 1]
    assert correlation.abs() < 5 / len(draws) ** 0.5


@pytest.mark.parametrize("group", [0, 5, 24])
def test_a_group_that_does_not_divide_the_batch_is_refused(group):
    with pytest.raises(ValueError, match=f"12 rows.*blocks of {group}"):
        F.draw_mix(12, group, seeded())
