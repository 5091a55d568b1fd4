"""Training states are complete or absent, and a torn one is never trusted."""

import errno

import pytest
import torch
from accelerate import Accelerator

from hf_ssl import checkpoint
from hf_ssl.errors import HfSslError, UsageError


@pytest.fixture
def prepared():
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(3, 2)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.1))
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    return accelerator, model


def save(prepared, folder, step, position=None, keep_last=2):
    state = {"step": step, "best": None}
    return checkpoint.save(prepared[0], folder, state, position, keep_last)


def test_a_saved_state_comes_back(prepared, tmp_path):
    path = save(prepared, tmp_path, 7)
    weight = prepared[1].weight.detach().clone()
    with torch.no_grad():
        prepared[1].weight.zero_()
    state, position = checkpoint.restore(prepared[0], path)
    assert (state["step"], position) == (7, None)
    assert torch.equal(prepared[1].weight, weight)


def test_the_place_in_a_stream_comes_back(prepared, tmp_path):
    path = save(prepared, tmp_path, 1, position={"epoch": 2, "block": 3})
    assert checkpoint.restore(prepared[0], path)[1] == {"epoch": 2, "block": 3}


def test_only_the_newest_are_kept(prepared, tmp_path):
    for step in (1, 2, 3, 4):
        save(prepared, tmp_path, step)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-00000003", "step-00000004"]


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest"])
def test_a_torn_checkpoint_is_passed_over_by_name(prepared, tmp_path, caplog, harm):
    save(prepared, tmp_path, 1)
    newest = save(prepared, tmp_path, 2)
    victim = newest / "model.safetensors"
    content = victim.read_bytes()
    if harm == "truncate":
        victim.write_bytes(content[:-1])
    elif harm == "flip":
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "remove":
        victim.unlink()
    else:
        (newest / checkpoint.MANIFEST).write_text("{")
    assert checkpoint.find(tmp_path).name == "step-00000001"
    assert "step-00000002 is passed over" in caplog.text
    with pytest.raises(UsageError, match="cannot be used"):
        checkpoint.restore(prepared[0], newest)


def test_a_full_disk_leaves_the_previous_checkpoint_and_nothing_half_written(prepared, tmp_path, monkeypatch):
    save(prepared, tmp_path, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "sync_folder", full)
    with pytest.raises(HfSslError, match="is full"):
        save(prepared, tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.fault(tmp_path / "step-00000001") is None
