"""Random numbers that depend on what they are for and on nothing else.

A run draws everything from a key (seed, step, purpose), never from a generator that has been used before. So a resumed
run, a run with other worker counts and a run on several processes meet the same numbers.
"""

import hashlib

import torch


def step_generator(seed: int, step: int, purpose: str) -> torch.Generator:
    """CPU generator for one purpose ("crops", "views", "mix") at one step of a run.

    The key is hashed, so neighbouring seeds and steps give unrelated streams.
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{purpose}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
