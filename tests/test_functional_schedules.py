"""Numbers that change over a run, against the published code's values at every step."""

import pytest
import torch
from conftest import golden

from hf_ssl import functional as F

EXACT = {"rtol": 1e-12, "atol": 1e-15}
RUN = {"total_steps": 140, "steps_per_epoch": 7}


def rates(**options):
    return torch.tensor([F.learning_rate(step, **RUN, **options) for step in range(140)], dtype=torch.float64)


@pytest.mark.parametrize("batch", [256, 1024, 2048])
@pytest.mark.parametrize(("group", "base"), [("weights", 0.2), ("biases", 0.0048)])
def test_rates_of_the_published_barlow_twins(group, base, batch):
    ours = rates(peak=base * batch / 256, warmup_epochs=10, final_fraction=0.001)
    torch.testing.assert_close(ours, golden("schedules_lars")[f"fb_lr_{group}_bs{batch}"], **EXACT)


def test_rates_of_the_published_small_image_code_whose_epochs_count_from_one():
    ours = rates(peak=0.01, warmup_epochs=10, final_fraction=0.001, offset_epochs=1)
    torch.testing.assert_close(ours, golden("schedules_lars")["small_cosine_lr"], **EXACT)


def test_a_rate_per_epoch_holds_the_value_of_the_epochs_first_step():
    smooth = rates(peak=0.1, warmup_epochs=0, final_fraction=0)
    stepped = rates(peak=0.1, warmup_epochs=0, final_fraction=0, per="epoch")
    assert torch.equal(stepped, smooth[::7].repeat_interleave(7))
    assert stepped[0] == 0.1 and stepped[-1] > 0


def test_ends_of_the_cosine():
    options = {"total_steps": 100, "steps_per_epoch": 10, "peak": 2.0, "warmup_epochs": 3, "final_fraction": 0.25}
    assert F.learning_rate(0, **options) == 0
    assert F.learning_rate(15, **options) == pytest.approx(1.0)
    assert F.learning_rate(30, **options) == pytest.approx(2.0)
    assert F.learning_rate(65, **options) == pytest.approx((2.0 + 0.5) / 2)
    assert F.learning_rate(100, **options) == pytest.approx(0.5)


def test_warm_up_may_be_absent_a_part_of_an_epoch_or_longer_than_the_run():
    options = {"steps_per_epoch": 10, "peak": 1.0, "final_fraction": 0.0}
    assert F.learning_rate(0, total_steps=20, warmup_epochs=0, **options) == 1
    assert F.learning_rate(1, total_steps=20, warmup_epochs=0.25, **options) == pytest.approx(0.4)
    assert F.learning_rate(19, total_steps=20, warmup_epochs=4, **options) == pytest.approx(19 / 40)
    assert F.learning_rate(20, total_steps=20, warmup_epochs=2, **options) == pytest.approx(1)


def test_mix_warm_up_of_the_published_imagenet_code():
    ours = [2.0 * F.mix_warmup(step, steps_per_epoch=7, warmup_epochs=10) for step in range(140)]
    torch.testing.assert_close(
        torch.tensor(ours, dtype=torch.float64), golden("schedules_lars")["mix_scale_lambda2.0"], **EXACT
    )


def test_without_mix_warm_up_the_term_counts_from_the_first_step():
    assert F.mix_warmup(0, steps_per_epoch=7, warmup_epochs=0) == 1


def test_momentum_is_constant_or_rises_along_half_a_cosine_and_stays():
    constant = [F.momentum(step, total_steps=10, start=0.99) for step in (0, 5, 10)]
    assert constant == [0.99, 0.99, 0.99]
    options = {"total_steps": 10, "start": 0.9, "schedule": "cosine"}
    values = [F.momentum(step, **options) for step in range(13)]
    assert values[0] == pytest.approx(0.9) and values[5] == pytest.approx(0.95)
    assert values[10:] == [1.0, 1.0, 1.0] and values == sorted(values)
    assert F.momentum(10, final=0.999, **options) == pytest.approx(0.999)
