"""What every test may use: the recorded numbers of published code, and real images where they are present."""

from pathlib import Path

import numpy as np
import pytest
import torch

TESTS = Path(__file__).parent
SHARED_DATA = TESTS.parent.parent / "shared" / "data"


def golden(name: str) -> dict[str, torch.Tensor]:
    """The arrays of tests/golden/NAME.npz as tensors, with the precision they were recorded in."""
    with np.load(TESTS / "golden" / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key].copy()) for key in arrays.files}


def shared_data(name: str) -> Path:
    """The folder of a real data set kept beside the checkout; the test is skipped where it is absent."""
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the data set '{name}' is not beside this checkout")
    return folder
