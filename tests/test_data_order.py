"""Laws of the order of rows: every row once an epoch, any position reachable, processes that share a batch."""

import itertools
import json
import logging

import datasets
import numpy as np
import pytest
from picture_files import parquet, tar_shards

from hf_ssl.data import open_source
from hf_ssl.data.order import MapOrder, StreamOrder, epoch_order
from hf_ssl.errors import HfSslError, UsageError


@pytest.fixture(autouse=True)
def a_cache_of_our_own(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def take(order, count, start_step=0, position=None):
    tasks = order.tasks(start_step, position)
    taken = list(itertools.islice(tasks, count))
    tasks.close()
    return taken


def seen(tasks):
    return [(task.step, task.epoch, task.rows) for task in tasks]


def test_an_epochs_order_is_a_permutation_from_seed_and_epoch():
    for length in (1, 2, 1000):
        assert sorted(epoch_order(length, 3, 4).tolist()) == list(range(length))
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert epoch_order(50, 1, 2).tolist() == np.random.default_rng((1, 2)).permutation(50).tolist()


def test_every_row_once_an_epoch_but_the_incomplete_batch():
    order = MapOrder(23, 5, 0, 1, seed=7)
    assert order.steps_per_epoch == 4
    tasks = take(order, 12)
    assert [task.epoch for task in tasks] == [0] * 4 + [1] * 4 + [2] * 4
    assert [task.step for task in tasks] == list(range(12))
    epochs = [[row for task in tasks[start : start + 4] for row in task.rows] for start in (0, 4, 8)]
    for rows in epochs:
        assert len(set(rows)) == 20 and set(rows) <= set(range(23))
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("world", [2, 4])
def test_the_processes_slices_join_to_the_one_process_batch(world):
    alone = take(MapOrder(40, 8, 0, 1, seed=1), 11)
    together = [take(MapOrder(40, 8, rank, world, seed=1), 11) for rank in range(world)]
    for step, task in enumerate(alone):
        assert [row for rank in range(world) for row in together[rank][step].rows] == task.rows
        assert {json.dumps(together[rank][step].position) for rank in range(world)} == {json.dumps(task.position)}


def test_a_map_order_starts_anywhere():
    order = MapOrder(23, 5, 1, 5, seed=7)
    whole = take(order, 15)
    for start in range(12):
        assert seen(take(order, 3, start_step=start)) == seen(whole[start : start + 3])
        assert seen(take(order, 3, position=json.loads(json.dumps(whole[start].position)))) == seen(
            whole[start + 1 : start + 4]
        )
    far = take(order, 1, start_step=4 * 10**9 + 2)[0]
    assert far.epoch == 10**9


def stream(folder, batch, rank=0, world=1, seed=5, block_rows=8):
    return StreamOrder(open_source(str(folder), streaming=True), batch, rank, world, seed, block_rows)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("streams")
    return {
        "one file": parquet(root / "one", 43),
        "three files": parquet(root / "three", 43, files=3),
        "four files": parquet(root / "four", 44, files=4),
        "tars": tar_shards(root / "tars", 2, 20),
    }


@pytest.mark.parametrize("kind", ["one file", "three files", "tars"])
def test_a_stream_resumes_exactly_from_every_position(folders, kind):
    whole = take(stream(folders[kind], 4), 24)
    assert whole[-1].epoch >= 2
    for at in range(21):
        position = json.loads(json.dumps(whole[at].position))
        resumed = take(stream(folders[kind], 4), 3, position=position)
        assert seen(resumed) == seen(whole[at + 1 : at + 4]), at
        assert [t.values for t in resumed[:2]] == [t.values for t in whole[at + 1 : at + 3]]


@pytest.mark.parametrize("kind", ["one file", "three files", "tars"])
def test_a_stream_that_is_stopped_after_every_step_goes_on_as_if_it_never_was(folders, kind):
    whole = take(stream(folders[kind], 4), 24)
    position = None
    for at in range(24):
        task = take(stream(folders[kind], 4), 1, position=position)[0]
        assert seen([task]) == seen([whole[at]]) and task.values == whole[at].values, at
        position = json.loads(json.dumps(task.position))


@pytest.mark.parametrize(("kind", "world"), [("four files", 2), ("three files", 2), ("one file", 3)])
def test_each_process_of_a_stream_resumes_its_own_rows(folders, kind, world):
    for rank in range(world):
        whole = take(stream(folders[kind], 2 * world, rank, world), 20)
        for at in range(0, 18, 3):
            resumed = take(stream(folders[kind], 2 * world, rank, world), 2, position=whole[at].position)
            assert seen(resumed) == seen(whole[at + 1 : at + 3])


def names(tasks):
    return [row.split("(")[1] for task in tasks for row in task.rows]


def test_a_streams_epoch_has_every_row_once_but_what_fills_no_batch(folders):
    for kind, rows in (("one file", 43), ("tars", 40)):
        order = stream(folders[kind], 4, block_rows=8)
        epochs = [names(t for t in take(order, 30) if t.epoch == epoch) for epoch in (0, 1)]
        for epoch in epochs:
            assert len(epoch) == len(set(epoch)) == rows // 4 * 4
        assert epochs[0] != epochs[1]


def test_each_block_has_an_order_of_its_own(folders):
    tasks = take(stream(folders["one file"], 4, block_rows=16), 8)
    blocks = [[int(name.split(".")[0]) % 16 for name in names(tasks[start : start + 4])] for start in (0, 4)]
    assert sorted(blocks[0]) == sorted(blocks[1]) == list(range(16)) and blocks[0] != blocks[1]


def test_a_streams_steps_are_counted_on_over_blocks_and_epochs(folders):
    tasks = take(stream(folders["one file"], 4), 24)
    assert [task.step for task in tasks] == list(range(24))
    assert [task.position["step"] for task in tasks] == list(range(1, 25))


def test_rows_are_shuffled_within_blocks(folders):
    first_block = names(take(stream(folders["one file"], 4, block_rows=16), 4))
    assert sorted(first_block, key=lambda name: int(name.split(".")[0])) == [f"{n}.png)" for n in range(16)]
    assert first_block != [f"{n}.png)" for n in range(16)]
    assert names(take(stream(folders["one file"], 4, block_rows=16, seed=6), 4)) != first_block


@pytest.mark.parametrize(("kind", "rows"), [("four files", 44), ("three files", 43)])
def test_the_processes_of_a_stream_share_the_rows_without_overlap(folders, kind, rows, caplog):
    with caplog.at_level(logging.WARNING):
        epochs = [names(t for t in take(stream(folders[kind], 2, rank, 2), 30) if t.epoch == 0) for rank in range(2)]
    assert len(set(epochs[0]) | set(epochs[1])) == len(epochs[0]) + len(epochs[1]) >= rows - 1
    assert ("3 shards cannot be shared equally by 2 processes" in caplog.text) == (kind == "three files")


def test_processes_whose_shares_differ_all_go_on(folders):
    steps = [len(take(stream(folders["three files"], 4, rank, 2), 50)) for rank in range(2)]
    assert steps == [50, 50]


def test_a_streams_length_is_told_where_it_is_known(folders):
    assert stream(folders["one file"], 4).steps_per_epoch == 10
    assert stream(folders["tars"], 4).steps_per_epoch is None


def test_a_streams_place_belongs_to_its_process(folders):
    position = take(stream(folders["four files"], 4, 0, 2), 2)[-1].position
    for rank, world, word in ((1, 2, "process_index 0, not 1"), (0, 1, "num_processes 2, not 1")):
        with pytest.raises(UsageError, match=word):
            take(stream(folders["four files"], 4, rank, world), 1, position=position)
    with pytest.raises(UsageError, match="cannot start at step 3 without the position"):
        take(stream(folders["four files"], 4), 1, start_step=3)


def test_a_stream_that_fills_no_batch_says_so(folders):
    with pytest.raises(UsageError, match="does not fill one batch of 50; take a smaller --batch_size"):
        take(stream(folders["one file"], 50), 1)


def test_a_stream_that_breaks_off_is_told_in_a_sentence(tmp_path):
    order = stream(parquet(tmp_path, 40, files=4), 4)
    (tmp_path / "train-00002-of-00004.parquet").unlink()
    with pytest.raises(HfSslError, match="broke off in epoch 0"):
        take(order, 10)
