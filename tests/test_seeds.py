"""Random numbers depend on their key and on nothing else."""

import itertools

import torch

from hf_ssl.seeds import step_generator


def first(seed, step, purpose):
    return torch.rand(4, generator=step_generator(seed, step, purpose)).tolist()


def test_the_same_key_gives_the_same_numbers():
    assert first(3, 7, "crops") == first(3, 7, "crops")


def test_every_part_of_the_key_matters():
    keys = list(itertools.product((0, 1, 10), (0, 1, 10), ("crops", "views")))
    assert len({tuple(first(*key)) for key in keys}) == len(keys)


def test_neighbouring_steps_are_unrelated_and_uniform():
    draws = torch.tensor([first(0, step, "views")[0] for step in range(4000)])
    assert abs(draws.mean() - 0.5) < 0.02
    assert abs(torch.corrcoef(torch.stack((draws[:-1], draws[1:])))[0, 1]) < 0.05
    assert torch.histc(draws, 10, 0, 1).min() > 320


def test_torchs_own_generator_is_left_alone():
    before = torch.get_rng_state()
    first(0, 0, "mix")
    assert torch.equal(before, torch.get_rng_state())
