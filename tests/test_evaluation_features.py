"""Features of a split: the right image behind every row, prepared as published, whatever encodes them."""

import logging

import pytest
import torch
from picture_files import image_files, parquet, picture
from tiny import small_model

import hf_ssl
from hf_ssl.data import open_source
from hf_ssl.errors import HfSslError, UsageError
from hf_ssl.evaluation.baselines import raw_pixels, untrained
from hf_ssl.evaluation.features import Features, extract, prepare, represent
from hf_ssl.preprocessing import Preprocess
from hf_ssl.repository import publish_folder

PREPROCESS = Preprocess.for_training_size(8, (0.5, 0.4, 0.3), (0.2, 0.2, 0.3))


def pixels_of(rows, size=(8, 8)):
    """What raw pixels must give for pictures of the training size."""
    images = torch.stack([torch.from_numpy(picture(row, size)).permute(2, 0, 1) for row in rows])
    return PREPROCESS.normalize(images).flatten(start_dim=1)


@pytest.fixture
def source(tmp_path):
    return open_source(str(parquet(tmp_path / "data", rows=23)))


@pytest.mark.parametrize("batch_size", [1, 8, 23, 64])
def test_every_row_has_its_own_image_and_label(source, batch_size):
    features = extract(raw_pixels, source, PREPROCESS, batch_size=batch_size)
    assert features.rows == list(range(23))
    assert features.labels.tolist() == [row % 3 for row in range(23)]
    assert torch.equal(features.embeddings, pixels_of(range(23)))


def test_a_limit_takes_a_seeded_choice_and_says_which(source):
    chosen = extract(raw_pixels, source, PREPROCESS, limit=9, seed=4)
    assert len(chosen.rows) == len(set(chosen.rows)) == 9
    assert torch.equal(chosen.embeddings, pixels_of(chosen.rows))
    assert chosen.labels.tolist() == [row % 3 for row in chosen.rows]
    assert extract(raw_pixels, source, PREPROCESS, limit=9, seed=4).rows == chosen.rows
    assert extract(raw_pixels, source, PREPROCESS, limit=9, seed=5).rows != chosen.rows
    assert extract(raw_pixels, source, PREPROCESS, limit=99).rows == list(range(23))


def test_prepared_images_can_be_represented_again_and_again(source):
    kept = list(prepare(source, PREPROCESS, batch_size=10))
    assert [batch.images.shape for batch in kept] == [(10, 3, 8, 8), (10, 3, 8, 8), (3, 3, 8, 8)]
    assert kept[0].images.dtype == torch.uint8
    for encode in (raw_pixels, lambda images: images.mean(dim=(2, 3))):
        direct = extract(encode, source, PREPROCESS, batch_size=10)
        again = represent(encode, kept, PREPROCESS)
        assert torch.equal(direct.embeddings, again.embeddings)
        assert (direct.rows, direct.labels.tolist()) == (again.rows, again.labels.tolist())


def test_images_of_mixed_sizes_are_resized_each_by_itself(tmp_path):
    source = open_source(str(parquet(tmp_path / "mixed", rows=9, size=None)))
    together = extract(raw_pixels, source, PREPROCESS, batch_size=9)
    alone = extract(raw_pixels, source, PREPROCESS, batch_size=1)
    assert torch.equal(together.embeddings, alone.embeddings)


def test_unreadable_images_are_left_out_and_named(tmp_path, caplog):
    source = open_source(str(parquet(tmp_path / "data", rows=150, broken={5: b"", 9: b"\x89PNG torn"})))
    with caplog.at_level(logging.WARNING), pytest.raises(HfSslError, match="2 of 150"):
        extract(raw_pixels, source, PREPROCESS)
    source = open_source(str(parquet(tmp_path / "more", rows=150, broken={5: b""})))
    features = extract(raw_pixels, source, PREPROCESS, batch_size=16)
    assert features.rows == [row for row in range(150) if row != 5]
    assert torch.equal(features.embeddings, pixels_of(features.rows))
    assert features.labels.tolist() == [row % 3 for row in features.rows]
    assert "5 (5.png) cannot be used: zero bytes" in caplog.text


def test_images_without_labels_have_features_and_protocols_say_what_they_need(tmp_path):
    source = open_source(str(parquet(tmp_path / "data", rows=12, labels=False)))
    features = extract(raw_pixels, source, PREPROCESS)
    assert features.labels is None
    assert features.embeddings.shape == (12, 192)
    with pytest.raises(UsageError, match="needs labels"):
        features.labelled()


def test_rows_of_unknown_label_can_be_left_out():
    features = Features(torch.arange(4.0)[:, None], torch.tensor([1, -1, 0, -1]), [3, 5, 8, 9])
    known = features.labelled()
    assert (known.embeddings.flatten().tolist(), known.labels.tolist(), known.rows) == ([0.0, 2.0], [1, 0], [3, 8])
    with pytest.raises(UsageError, match="needs labels"):
        features.known_labels()
    assert known.labelled() is known


def test_features_that_are_not_finite_are_refused_with_the_first_row(source):
    def broken(images):
        features = raw_pixels(images)
        features[2, 0] = torch.nan
        return features

    with pytest.raises(HfSslError, match=r"3 of 23 representations .* row 2\)"):
        extract(broken, source, PREPROCESS, batch_size=10)


def test_extraction_needs_no_gradient_and_leaves_the_model_as_it_was(source):
    model = small_model("barlow_twins").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features = extract(model.encode, source, PREPROCESS)
    assert not features.embeddings.requires_grad
    assert features.embeddings.dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_untrained_network_is_the_one_a_run_starts_from():
    model = small_model("barlow_twins", seed=3).eval()
    images = torch.randn(4, 3, 32, 32)
    state = torch.get_rng_state()
    encode = untrained(model.config, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(encode(images), model.encode(images))
    assert not torch.equal(untrained(model.config, seed=4)(images), model.encode(images))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = small_model("barlow_twins", image_mean=[0.5, 0.5, 0.5], image_std=[0.2, 0.2, 0.2]).eval()
    publish_folder(model, folder, recipe={}, results=[])
    return folder, model


def test_load_features_gives_a_dataset_with_rows_files_labels_and_embeddings(model_folder, tmp_path):
    folder, model = model_folder
    names = ["ant/a.png", "bee/b.png", "bee/c.png", "cat/d.png"]
    data = image_files(tmp_path / "data", names, size=(32, 32))
    features = hf_ssl.load_features(str(folder), str(data))
    assert features.column_names == ["row", "file_name", "label", "embedding"]
    assert features["file_name"][:] == names
    assert features.features["label"].names == ["ant", "bee", "cat"]
    assert features["label"][:] == [0, 1, 1, 2]
    images = torch.stack([torch.from_numpy(picture(row, (32, 32))).permute(2, 0, 1) for row in range(4)])
    expected = model.encode(Preprocess.for_training_size(32, (0.5,) * 3, (0.2,) * 3)(images))
    embeddings = features.with_format("torch")["embedding"][:]
    torch.testing.assert_close(embeddings, expected.detach(), rtol=0, atol=1e-5)


def test_load_features_takes_a_limit_and_an_opened_source(model_folder, tmp_path):
    folder, _ = model_folder
    source = open_source(str(parquet(tmp_path / "data", rows=12, labels=False)))
    some = hf_ssl.load_features(str(folder), source, limit=5, seed=1)
    everyone = hf_ssl.load_features(str(folder), str(tmp_path / "data"))
    assert some.column_names == ["row", "file_name", "embedding"]
    assert len(some) == 5
    assert some["file_name"][:] == [f"{row}.png" for row in some["row"]]
    for row, embedding in zip(some["row"], some["embedding"], strict=True):
        torch.testing.assert_close(
            torch.tensor(embedding), torch.tensor(everyone["embedding"][row]), rtol=0, atol=1e-5
        )
