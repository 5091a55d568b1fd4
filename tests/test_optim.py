"""LARS and the schedules are the published ones."""

import numpy as np
import torch
from conftest import golden
from tiny import small_model

from hf_ssl.arguments import TrainingArguments
from hf_ssl.optim import build_optimizer, build_schedule
from hf_ssl.plan import Plan


class Three(torch.nn.Module):
    """A weight, a weight that starts at zero, and a bias."""

    def __init__(self, arrays):
        super().__init__()
        for name in "WVB":
            setattr(self, name, torch.nn.Parameter(arrays[f"lars_{name}0"].double()))


def test_lars_takes_the_published_steps():
    arrays = golden("schedules_lars")
    model = Three(arrays)
    optimizer = build_optimizer(
        model, TrainingArguments(optimizer="lars", learning_rate=1.0, bias_learning_rate=1.0, weight_decay=1e-6)
    )
    for step in range(4):
        for name in "WVB":
            getattr(model, name).grad = arrays[f"lars_grad{name}"][step].double()
        for group, rate in zip(optimizer.param_groups, arrays["lars_lrs"][step], strict=True):
            group["lr"] = float(rate)
        optimizer.step()
        for name, tolerance in (("W", 1e-6), ("V", 2e-4), ("B", 1e-9)):
            # V meets a zero gradient once, where timm's rule is a trust ratio of 1 and the published one 1/decay
            np.testing.assert_allclose(getattr(model, name).detach(), arrays[f"lars_{name}"][step], rtol=tolerance)


def plan(total, per_epoch):
    return Plan(total, per_epoch, 2, log_every=0, evaluate_every=0, save_every=0)


def rates(arguments, total, per_epoch, start=0):
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(model, arguments)
    if start:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    schedule = build_schedule(optimizer, arguments, plan(total, per_epoch), steps_done=start)
    seen = []
    for _ in range(start, total):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return np.array(seen)


def test_the_run_follows_the_published_schedules():
    arrays = golden("schedules_lars")
    for batch in (256, 1024, 2048):
        arguments = TrainingArguments(
            optimizer="lars", batch_size=batch, learning_rate=0.2, bias_learning_rate=0.0048, warmup_epochs=10
        )
        seen = rates(arguments, 140, 7)
        np.testing.assert_allclose(seen[:, 0], arrays[f"fb_lr_weights_bs{batch}"], rtol=1e-12)
        np.testing.assert_allclose(seen[:, 1], arrays[f"fb_lr_biases_bs{batch}"], rtol=1e-12)
    small = TrainingArguments(optimizer="adam", learning_rate=0.01, warmup_epochs=10, schedule_offset_epochs=1)
    np.testing.assert_allclose(rates(small, 140, 7)[:, 0], arrays["small_cosine_lr"], rtol=1e-12)


def test_the_predictor_of_simsiam_keeps_its_rate():
    """The others' rate falls to a hundredth; weights decay and vectors do not, in either kind of group."""
    arguments = TrainingArguments(learning_rate=0.1, weight_decay=0.5, warmup_epochs=0, final_learning_rate_fraction=0)
    model = small_model("simsiam")
    optimizer = build_optimizer(model, arguments)
    predictor = {id(parameter) for parameter in model.predictor.parameters()}
    for group in optimizer.param_groups:
        assert all((id(p) in predictor) == group["constant_rate"] for p in group["params"])
        assert all((p.ndim > 1) == (group["weight_decay"] == 0.5) for p in group["params"])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    schedule = build_schedule(optimizer, arguments, plan(10, 5), steps_done=0)
    for _ in range(9):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups][2:] == [0.1, 0.1]
    assert all(group["lr"] < 0.01 for group in optimizer.param_groups[:2])
    followed = build_optimizer(small_model("simsiam", constant_predictor_rate=False), arguments)
    assert [group["constant_rate"] for group in followed.param_groups] == [False, False]


def test_a_resumed_schedule_goes_on_where_it_stood():
    whole = rates(TrainingArguments(), 30, 10)
    np.testing.assert_array_equal(rates(TrainingArguments(), 30, 10, start=11), whole[11:])


def test_vectors_do_not_decay_and_bias_rates_follow_the_batch():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = build_optimizer(
        model, TrainingArguments(batch_size=512, learning_rate=0.1, bias_learning_rate=0.01, weight_decay=0.5)
    )
    weights, vectors = optimizer.param_groups
    assert [tuple(p.shape) for p in weights["params"]] == [(2, 2)]
    assert (weights["weight_decay"], weights["lr"]) == (0.5, 0.2)
    assert (vectors["weight_decay"], vectors["lr"]) == (0.0, 0.02)
