"""What every test may use: the recorded numbers of published code, and real images where they are present."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TESTS = Path(__file__).parent
SHARED_DATA = TESTS.parent.parent / "shared" / "data"


def golden(name: str) -> dict[str, torch.Tensor]:
    """The numeric arrays of tests/golden/NAME.npz as tensors, with the precision they were recorded in."""
    with np.load(TESTS / "golden" / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return {key: torch.from_numpy(array.copy()) for key, array in arrays.items() if array.dtype.kind != "U"}


class LargestTensor(TorchDispatchMode):
    """Inside the block, `entries` is how many entries the largest tensor had that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.entries = max([self.entries, *(tensor.numel() for tensor in tensors)])
        return result


def shared_data(name: str) -> Path:
    """The folder of a real data set kept beside the checkout; the test is skipped where it is absent."""
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the data set '{name}' is not beside this checkout")
    return folder


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """The commands set up logging for a terminal; no test should hear of another's."""
    logger = logging.getLogger("hf_ssl")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before
