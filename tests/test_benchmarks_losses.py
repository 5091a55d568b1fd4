"""The clock's arithmetic and its view of memory, and that the formulas it times are the objectives they stand for."""

import json

import pytest
import torch

from hf_ssl import functional as F
from hf_ssl.benchmarks import amcl, clock, losses, two_processes


class Machine:
    """A clock that only moves when work is done, twice as slow from the third round on."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def work(self, name, seconds):
        def call():
            self.calls.append(name)
            self.now += seconds * (2 if self.calls.count(name) > 4 else 1)

        return call


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(clock.time, "perf_counter", lambda: machine.now)
    monkeypatch.setattr(clock.time, "process_time", lambda: machine.now / 2)
    return machine


def test_ratios_are_of_the_same_round_and_above_one_when_faster(machine):
    variants = {"base": machine.work("base", 6.0), "ours": machine.work("ours", 2.0)}
    ours = clock.compare(variants, "base", rounds=5)["ours"]
    assert ours.ratio_wall == pytest.approx(3.0) and ours.ratio_cpu == pytest.approx(3.0)
    assert ours.milliseconds == pytest.approx(4000) and ours.baseline_milliseconds == pytest.approx(12000)


def test_variants_take_turns_in_changing_order(machine):
    variants = {name: machine.work(name, 1.0) for name in "abc"}
    clock.compare(variants, "a", rounds=8)
    turns = machine.calls[6:]
    rounds = [tuple(turns[start : start + 3]) for start in range(0, 24, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds) and len(set(rounds)) > 1


def test_a_short_call_is_repeated_and_told_as_one(machine):
    variants = {"base": machine.work("base", 0.0005), "ours": machine.work("ours", 0.001)}
    timings = clock.compare(variants, "base", rounds=1)
    assert machine.calls.count("base") >= 20 and machine.calls.count("ours") >= 10
    assert timings["base"].milliseconds <= 1.001
    assert timings["ours"].ratio_wall == pytest.approx(0.5, rel=0.1)
    assert timings["ours"].ratio_cpu == pytest.approx(0.5, rel=0.1)


def test_threads_are_given_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), clock.threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_peak_memory_sees_what_a_call_adds_and_gives_back():
    matrix = 4 * 2048**2
    peak = clock.peak_memory("hf_ssl.benchmarks.losses:one_call", "barlow_twins", "formula", 8, 2048)
    assert 3 * matrix < peak < 9 * matrix  # the formula holds C, a copy, and their gradients


def test_formulas_are_the_objectives_they_are_timed_against():
    z_mix, z_a, z_b = losses.embeddings(3, 8, 24)
    permutation = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    torch.testing.assert_close(losses.published_barlow_twins(z_a, z_b), F.barlow_twins(z_a, z_b, losses.WEIGHT))
    ours = F.barlow_twins(z_a, z_b, losses.WEIGHT, "unbiased") + losses.MIX_WEIGHT * losses.WEIGHT * F.mix_consistency(
        z_mix, z_a, z_b, losses.ALPHA, permutation, "ab", "unbiased"
    )
    torch.testing.assert_close(losses.published_mixed(z_mix, z_a, z_b, permutation), ours)
    torch.testing.assert_close(losses.published_nt_xent(z_a, z_b), F.nt_xent(z_a, z_b, losses.TEMPERATURE))


def test_rows_are_json_and_say_what_they_compare(monkeypatch):
    monkeypatch.setattr(losses, "BARLOW_TWINS", ((8, 24, 4.0),))
    monkeypatch.setattr(losses, "MIXED", ((8, 24, 6.0),))
    monkeypatch.setattr(losses, "NT_XENT", ((8, 24, 2.0),))
    monkeypatch.setattr(
        losses, "peak_memory", lambda target, objective, variant, *sizes: 1 if variant == "hf_ssl" else 10
    )
    row = losses.absent_row("another", "formula", 1.0)
    monkeypatch.setattr(losses.amcl, "run", lambda rounds: [row])
    monkeypatch.setattr(losses.two_processes, "run", lambda rounds: [row])
    report = losses.losses(rounds=1)
    assert json.loads(json.dumps(report)) == report
    fields = {"name", "baseline", "ratio_wall", "ratio_cpu", "milliseconds", "baseline_milliseconds", "bar"}
    assert all(fields <= set(row) for row in report["rows"])
    assert [row["baseline"] for row in report["rows"]] == [
        *["formula", "lightly"],
        "formula",
        *["formula", "lightly"] * 3,
        *["formula"] * 2,
    ]
    peak, peer = report["rows"][5:7]
    assert peak["ratio_memory"] == pytest.approx(10) and peak["bar"] == 5
    assert ("ratio_memory" in peer) == losses.installed("lightly")


def test_an_absent_peer_has_a_row_without_times(monkeypatch):
    monkeypatch.setattr(losses, "installed", lambda package: False)
    ours, peer = losses.two_view_rows("nt_xent", 8, 24, 4.0, rounds=1)
    assert peer["baseline"] == "lightly" and peer["ratio_cpu"] is None and ours["ratio_cpu"] > 0


def test_amcl_with_gathered_pairs_is_amcl():
    z_a, z_b = (torch.stack(views) for views in amcl.heads(2, 5))
    phi = torch.nn.Linear(amcl.WIDTH, amcl.WIDTH)
    expected = amcl.amcl(z_a, z_b, phi)
    torch.testing.assert_close(amcl.amcl(z_a, z_b, phi, gather=True), expected)
    torch.testing.assert_close(amcl.cheap_amcl(z_a, z_b, phi), expected)


def test_a_summed_cross_correlation_is_barlow_twins_on_one_process(monkeypatch):
    monkeypatch.setattr(two_processes.dist, "all_reduce", lambda total: total.mul_(2))  # the other process is alike
    z_a, z_b = losses.embeddings(2, 6, 10)
    torch.testing.assert_close(two_processes.summed(z_a, z_b), F.barlow_twins(z_a, z_b, two_processes.WEIGHT))
