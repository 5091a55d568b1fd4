"""A batch depends on the seed, the step and the data; not on workers, processes, or where a run was interrupted."""

import itertools
import json
import logging
import os
import signal

import datasets
import numpy as np
import pytest
import torch
from picture_files import encode, parquet, picture

from hf_ssl.augmentations import cut_crops, draw_crops, get_recipe
from hf_ssl.data import make_batches, open_source
from hf_ssl.data.assembling import next_good_rows
from hf_ssl.data.batches import default_workers
from hf_ssl.errors import HfSslError, UsageError
from hf_ssl.seeds import step_generator

RECIPE = get_recipe("cifar")


@pytest.fixture(autouse=True)
def a_cache_of_our_own(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return {
        "small": parquet(root / "small", 26, files=2),
        "large": parquet(root / "large", 26, files=2, size=None),
        "broken": parquet(root / "broken", 26, size=None, broken={3: b"", 4: b"junk", 25: b""}),
        "small broken": parquet(root / "small-broken", 26, broken={3: b"", 4: b"junk", 25: b""}),
    }


def batches(folder, *, streaming=False, **options):
    defaults = {"batch_size": 4, "recipe": RECIPE, "image_size": 16, "seed": 3, "num_workers": 0, "block_rows": 8}
    return make_batches(open_source(str(folder), streaming=streaming), **(defaults | options))


def take(made, count, *place):
    iterator = made.iterate(*place)
    taken = list(itertools.islice(iterator, count))
    iterator.close()
    return taken


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert (one.rows, one.step, one.epoch, one.bad) == (other.rows, other.step, other.epoch, other.bad)
        assert torch.equal(one.images, other.images)
        assert (one.crops is None) == (other.crops is None)
        if one.crops is not None:
            assert torch.equal(one.crops, other.crops)


def pixels(number, size=(8, 8)):
    return torch.from_numpy(picture(number, size)).permute(2, 0, 1)


def test_small_images_travel_whole_with_the_numbers_of_their_crops(folders):
    made = batches(folders["small"])
    assert made.whole and made.steps_per_epoch == 6 and made.num_workers == 0
    for batch in take(made, 8, 5):
        assert batch.images.dtype == torch.uint8 and batch.images.shape == (4, 3, 8, 8)
        assert torch.equal(batch.images, torch.stack([pixels(row) for row in batch.rows]))
        assert torch.equal(batch.crops, draw_crops(RECIPE, 4, step_generator(3, batch.step, "crops")))


def test_larger_images_come_as_two_crops(folders):
    made = batches(folders["large"])
    assert not made.whole
    for batch in take(made, 2):
        assert batch.crops is None and batch.images.shape == (4, 2, 3, 16, 16)
        uniforms = draw_crops(RECIPE, 4, step_generator(3, batch.step, "crops"))
        for slot, row in enumerate(batch.rows):
            whole = pixels(row, (100, 120) if row % 2 else (110, 100))
            assert torch.equal(batch.images[slot], cut_crops(whole, uniforms[slot], RECIPE, 16))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["small", "large", "broken", "small broken"])
def test_any_number_of_workers_gives_the_same_batches(folders, kind, streaming):
    options = {"streaming": streaming, "max_bad_fraction": 0.5}
    alone = take(batches(folders[kind], **options), 15)
    assert alone[-1].epoch == 2
    assert_same(alone, take(batches(folders[kind], num_workers=2, **options), 15))


@pytest.mark.parametrize("kind", ["small", "large", "broken", "small broken"])
def test_the_processes_slices_join_to_the_one_process_batch(folders, kind):
    alone = take(batches(folders[kind], max_bad_fraction=0.5), 8)
    shares = [
        take(batches(folders[kind], process_index=rank, num_processes=2, max_bad_fraction=0.5), 8) for rank in range(2)
    ]
    for one, *parts in zip(alone, *shares, strict=True):
        assert one.rows == parts[0].rows + parts[1].rows
        assert torch.equal(one.images, torch.cat([part.images for part in parts]))
        assert one.position == parts[0].position == parts[1].position
        if one.crops is not None:
            assert torch.equal(one.crops, torch.cat([part.crops for part in parts]))


@pytest.mark.parametrize("kind", ["small", "large"])
def test_map_style_data_go_on_from_any_step(folders, kind):
    whole = take(batches(folders[kind]), 14)
    for at in range(1, 12, 2):
        assert_same(take(batches(folders[kind]), 2, at), whole[at : at + 2])
        assert_same(take(batches(folders[kind]), 2, 0, whole[at - 1].position), whole[at : at + 2])


@pytest.mark.parametrize(("kind", "workers"), [("small", 0), ("large", 2)])
def test_a_stream_goes_on_from_any_position(folders, kind, workers):
    whole = take(batches(folders[kind], streaming=True, num_workers=workers), 14)
    assert whole[0].crops is None or kind == "small"
    for at in range(0, 12, 3):
        position = json.loads(json.dumps(whole[at].position))
        made = batches(folders[kind], streaming=True)
        assert_same(take(made, 2, 0, position), whole[at + 1 : at + 3])


def test_workers_read_ahead_but_the_position_is_that_of_the_batch(folders):
    made = batches(folders["large"], num_workers=2, streaming=True)
    assert [batch.position["step"] for batch in take(made, 5)] == [1, 2, 3, 4, 5]


def test_seeds_and_epochs_change_the_order(folders):
    first, second = take(batches(folders["small"]), 6), take(batches(folders["small"], seed=4), 6)
    assert [batch.rows for batch in first] != [batch.rows for batch in second]
    assert [batch.rows for batch in first] != [batch.rows for batch in take(batches(folders["small"]), 6, 6)]


def test_torchs_own_generator_is_left_alone(folders):
    before = torch.get_rng_state()
    for kind, workers in (("small", 0), ("large", 0), ("large", 1)):
        take(batches(folders[kind], num_workers=workers), 2)
    assert torch.equal(before, torch.get_rng_state())


def test_one_channel(folders):
    for kind in ("small", "large"):
        assert take(batches(folders[kind], channels=1), 1)[0].images.shape[-3] == 1


def test_streams_of_arrays(tmp_path):
    features = datasets.Features({"pixels": datasets.Array3D((8, 8, 3), "uint8")})
    rows = {"pixels": [picture(n).tolist() for n in range(8)]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    batch = take(batches(tmp_path, streaming=True), 1)[0]
    assert torch.equal(batch.images[0], pixels(int(batch.rows[0])))


def test_a_bad_row_is_replaced_by_the_next_good_one_counted_and_named(folders, caplog):
    for kind in ("broken", "small broken"):
        caplog.clear()
        made = batches(folders[kind], max_bad_fraction=0.2)
        with caplog.at_level(logging.WARNING):
            epochs = [take(made, 6, start) for start in (0, 6, 12)]
        assert set(made.bad) <= {3, 4, 25} and len(made.bad) >= 2
        assert made.bad[4].startswith("not in an image format")
        named = [
            message for message in caplog.messages if message.startswith("Image 4 (4.png) cannot be used: not in")
        ]
        assert len(named) == 1
        for epoch in epochs:
            rows = [row for batch in epoch for row in batch.rows]
            assert not {3, 4, 25} & set(rows)
        everything = [row for epoch in epochs for batch in epoch for row in batch.rows]
        assert everything.count(5) > 3 >= everything.count(10)


def test_which_row_stands_in():
    assert next_good_rows(np.array([1, 2, 5]), 7).tolist() == [1, 1, 2, 5, 5, 5, 1]


def test_a_bad_image_of_a_stream_is_replaced_by_the_good_one_before_it(folders):
    made = batches(folders["broken"], streaming=True, batch_size=8, block_rows=8)
    batch = take(made, 1)[0]
    order = np.random.default_rng((3, 0, 0)).permutation(8).tolist()
    expected = [row for row in order if row not in (3, 4)]
    assert [row for row, _ in batch.bad] == [f"{row} ({row}.png)" for row in order if row in (3, 4)]
    for slot, row in enumerate(order):
        stands = row if row not in (3, 4) else next((r for r in order[slot::-1] if r not in (3, 4)), expected[0])
        assert batch.rows[slot] == f"{stands} ({stands}.png)"
    assert len(made.bad) == 2


def test_an_image_of_another_size_in_a_stream_of_whole_images_is_a_bad_one(tmp_path):
    parquet(tmp_path, 48, broken={40: encode(picture(40, (9, 9)))})
    made = batches(tmp_path, streaming=True, batch_size=16, block_rows=48)
    take(made, 3)
    assert made.bad == {"40 (40.png)": "9 x 9 pixels in a stream of 8 x 8"}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["broken", "small broken"])
def test_too_many_bad_images_stop_the_run_with_their_number_and_names(folders, kind, workers):
    with pytest.raises(HfSslError, match=r"2 of 26 images .* --max_bad_fraction 0\.01 allows; the first are \d+"):
        take(batches(folders[kind], num_workers=workers), 12)


def test_one_bad_image_never_stops_a_run_unless_none_is_allowed(tmp_path):
    parquet(tmp_path, 8, broken={2: b""})
    assert len(take(batches(tmp_path), 6)) == 6
    with pytest.raises(HfSslError, match="1 of 8 images"):
        take(batches(tmp_path, max_bad_fraction=0), 6)


def test_a_worker_that_is_killed_is_told_in_a_sentence(folders, monkeypatch):
    def killed(value, channels):
        assert torch.utils.data.get_worker_info() is not None
        os.kill(os.getpid(), signal.SIGKILL)

    made = batches(folders["large"], num_workers=1)
    monkeypatch.setattr("hf_ssl.data.assembling.decode", killed)
    with pytest.raises(HfSslError, match=r"a decoding worker died.*fewer --num_workers"):
        take(made, 1)


@pytest.mark.parametrize("streaming", [False, True])
def test_nothing_but_bad_images_stops_the_run(tmp_path, streaming):
    parquet(tmp_path, 12, broken={row: b"junk" for row in range(12)})
    for fraction in (0.01, 1.0):
        with pytest.raises(HfSslError, match="can"):
            take(batches(tmp_path, streaming=streaming, max_bad_fraction=fraction), 2)


def test_small_images_of_several_sizes_are_cut_by_workers(tmp_path):
    parquet(tmp_path, 8, broken={7: encode(picture(7, (9, 9)))})
    made = batches(tmp_path)
    assert not made.whole and take(made, 1)[0].images.shape == (4, 2, 3, 16, 16)
    with pytest.raises(UsageError, match="--data_on_device true needs images of one size"):
        batches(tmp_path, on_device="true")


def test_where_decoded_images_live(folders, tmp_path):
    for on_device, place in (("true", "meta"), ("auto", "cpu"), ("false", "cpu")):
        made = batches(folders["small"], device="meta", on_device=on_device)
        assert made._reader.images.device.type == place
    large = parquet(tmp_path, 4, size=(100, 100))
    assert not batches(large).whole and batches(large, on_device="true").whole
    with pytest.raises(UsageError, match="a stream has none of them ahead"):
        batches(folders["small"], streaming=True, on_device="true")


def test_more_pixels_than_fit_are_decoded_as_they_are_needed(folders, monkeypatch):
    monkeypatch.setattr("hf_ssl.data.assembling.RESIDENT_BYTES", 26 * 3 * 64 - 1)
    assert not batches(folders["small"]).whole
    monkeypatch.setattr("hf_ssl.data.assembling.RESIDENT_BYTES", 26 * 3 * 64)
    assert batches(folders["small"]).whole


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 1}, r"--batch_size 1: BatchNorm and every objective .* compare .* use at least 2"),
        ({"batch_size": 27}, r"--batch_size 27 is larger than the 26 images there are; the largest that fits is 26"),
        ({"batch_size": 32, "num_processes": 4}, r"larger than the 26 images there are; the largest that fits is 24"),
        ({"batch_size": 5, "num_processes": 4}, r"--batch_size 5 cannot be shared equally by 4 .* nearest .* is 4"),
        ({"batch_size": 23, "num_processes": 4}, r"--batch_size 23 cannot be shared .* nearest that can is 24"),
        ({"batch_size": 3, "num_processes": 8}, r"--batch_size 3 cannot be shared .* nearest that can is 8"),
        ({"channels": 2}, r"--in_chans 2: images are read as grey \(1\), colour \(3\)"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(folders, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        batches(folders["small"], **options)


def test_too_few_images_for_any_batch(tmp_path):
    parquet(tmp_path, 1)
    with pytest.raises(UsageError, match="larger than the 1 images there are; more images are needed"):
        batches(tmp_path, batch_size=2)


def test_workers_by_default(folders):
    assert 1 <= default_workers(1) <= 8 and default_workers(10**6) == 1
    assert batches(folders["large"], num_workers=None).num_workers == default_workers(1)
    assert batches(folders["small"], num_workers=None).num_workers == 0
