"""Any folder of images becomes rows with an order, and every mistake one sentence that names the remedy."""

import logging
import socket

import datasets
import numpy as np
import pytest
import torch
from conftest import shared_data
from picture_files import encode, image_files, parquet, picture, tar_shards

from hf_ssl.data import decode, image_at, open_source
from hf_ssl.data.naming import file_name
from hf_ssl.data.reading import decode_all
from hf_ssl.errors import HfSslError, UsageError


@pytest.fixture(autouse=True)
def no_network_and_a_cache_of_our_own(monkeypatch, tmp_path_factory):
    def refuse(*arguments, **options):
        raise AssertionError(f"network: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def shown(source):
    """All images of a source as arrays (H, W, C)."""
    return [decoded.image.permute(1, 2, 0).numpy() for decoded in decode_all(source)]


def is_pictures(images, numbers):
    return len(images) == len(numbers) and all(
        np.array_equal(image, picture(number)) for image, number in zip(images, numbers, strict=True)
    )


def test_a_flat_folder_is_train_whatever_the_files_are_called(tmp_path):
    image_files(tmp_path, ["a.png", "b-test.png", "test_1.PNG", "val.png", "validation-2.png"])
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    source = open_source(str(tmp_path))
    assert len(source) == 5 and source.label_column is None
    assert is_pictures(shown(source), range(5))
    assert list(source.file_names()) == ["a.png", "b-test.png", "test_1.PNG", "val.png", "validation-2.png"]
    assert source.row_name(2) == "2 (test_1.PNG)"
    with pytest.raises(UsageError, match="no labels"):
        source.labels()


def test_names_of_files_never_tell_where_the_data_lie(tmp_path):
    outside = str(tmp_path / "elsewhere" / "a.png")
    assert file_name({"bytes": None, "path": outside}, None) == "a.png"
    assert file_name({"bytes": None, "path": outside}, tmp_path / "data") == "a.png"
    assert file_name({"bytes": None, "path": outside}, tmp_path) == "elsewhere/a.png"
    assert file_name({"bytes": b"", "path": "shard/a.png"}, None) == "shard/a.png"
    assert file_name({"bytes": b"", "path": None}, None) is None


def test_folders_one_level_down_are_classes(tmp_path):
    image_files(tmp_path, ["cat/0.png", "ant/0.png", "cat/1.png", "bee/x.png"])
    source = open_source(str(tmp_path))
    assert source.class_names == ("ant", "bee", "cat") and source.num_classes == 3
    assert source.labels().tolist() == [0, 1, 2, 2]
    assert list(source.file_names()) == ["ant/0.png", "bee/x.png", "cat/0.png", "cat/1.png"]
    assert is_pictures(shown(source), [1, 3, 0, 2])


@pytest.mark.parametrize(
    "names",
    [
        ["2023/05/a.png", "2024/06/b.png", "2024/06/c.png"],
        ["a/0.png", "b/0.png", "loose.png"],
        ["images/0.png", "images/1.png"],
    ],
)
def test_other_nested_folders_carry_no_labels(tmp_path, names):
    source = open_source(str(image_files(tmp_path, names)))
    assert len(source) == len(names) and source.label_column is None


def test_folders_named_like_splits_are_splits(tmp_path):
    image_files(tmp_path, ["train/ant/0.png", "train/bee/0.png", "val/bee/1.png", "unlabeled/x.png", "test/ant/2.png"])
    for split, rows, labels in (("train", 2, [0, 1]), ("validation", 1, [1]), ("test", 1, [0])):
        source = open_source(str(tmp_path), split=split)
        assert len(source) == rows and source.labels().tolist() == labels and source.num_classes == 2
    unlabelled = open_source(str(tmp_path), split="unlabeled")
    assert unlabelled.label_column is None and unlabelled.row_name(0) == "0 (unlabeled/x.png)"
    assert len(open_source(str(tmp_path), split="train+unlabeled")) == 3


def test_links_to_folders_are_followed_and_circles_end(tmp_path):
    image_files(tmp_path / "elsewhere", ["0.png"])
    root = tmp_path / "data"
    image_files(root, ["ant/1.png"])
    (root / "bee").symlink_to(tmp_path / "elsewhere")
    (root / "ant" / "round").symlink_to(root)
    assert list(open_source(str(root)).file_names()) == ["ant/1.png", "bee/0.png"]


def test_parquet_with_labels_and_slices(tmp_path):
    parquet(tmp_path, 10, files=2)
    parquet(tmp_path, 4, split="test")
    source = open_source(str(tmp_path))
    assert is_pictures(shown(source), range(10))
    assert source.labels().tolist() == [row % 3 for row in range(10)]
    assert source.class_names == ("ant", "bee", "cat")
    assert source.row_name(9) == "9 (9.png)"
    part = open_source(str(tmp_path), split="train[20%:50%]+test[-1:]")
    assert is_pictures(shown(part), [2, 3, 4, 3])
    chosen = source.select([7, 1])
    assert is_pictures(shown(chosen), [7, 1]) and chosen.labels().tolist() == [1, 1]
    assert torch.equal(image_at(source, 4), torch.from_numpy(picture(4)).permute(2, 0, 1))


def test_configurations_in_the_readme(tmp_path):
    parquet(tmp_path / "big", 6)
    parquet(tmp_path / "small", 3)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: big\n  data_files:\n  - {split: train, path: big/train-*}\n"
        "- config_name: small\n  data_files:\n  - {split: train, path: small/train-*}\n---\n"
    )
    assert len(open_source(str(tmp_path), config="small")) == 3
    with pytest.raises(UsageError, match=r"--dataset_config tiny: no such configuration .*'big', 'small'"):
        open_source(str(tmp_path), config="tiny")
    with pytest.raises(UsageError, match=r"name a --dataset_config .*'big', 'small'"):
        open_source(str(tmp_path))


def test_a_readme_without_configurations_does_not_hide_the_images(tmp_path):
    image_files(tmp_path, ["a.png", "b.png"])
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nHow the configs: were chosen.\n")
    assert len(open_source(str(tmp_path))) == 2


def test_webdataset_shards(tmp_path):
    source = open_source(str(tar_shards(tmp_path, 2, 4)))
    assert source.image_column == "png" and source.label_column is None
    assert is_pictures(shown(source), range(8))
    assert list(source.file_names())[:2] == ["0000.png", "0001.png"]
    assert open_source(str(tmp_path), label_column="cls").labels().tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_data_set_saved_to_disk(tmp_path):
    saved = datasets.Dataset.from_dict(
        {"image": [{"bytes": encode(picture(n)), "path": None} for n in range(3)]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=saved, test=saved.select([0])).save_to_disk(tmp_path / "two")
    assert is_pictures(shown(open_source(str(tmp_path / "one"))), range(3))
    assert is_pictures(shown(open_source(str(tmp_path / "two"), split="test")), [0])


def test_array_columns(tmp_path):
    arrays = np.stack([picture(n) for n in range(3)])
    kinds = {
        "last": (arrays, datasets.Array3D((8, 8, 3), "uint8")),
        "first": (arrays.transpose(0, 3, 1, 2), datasets.Array3D((3, 8, 8), "uint8")),
        "lists": (arrays, datasets.List(datasets.List(datasets.List(datasets.Value("uint8"))))),
    }
    for name, (values, kind) in kinds.items():
        features = datasets.Features({"pixels": kind})
        dataset = datasets.Dataset.from_dict({"pixels": values.tolist()}, features=features)
        (tmp_path / name).mkdir()
        dataset.to_parquet(tmp_path / name / "train.parquet")
        source = open_source(str(tmp_path / name))
        assert source.image_column == "pixels" and is_pictures(shown(source), range(3)), name
        stream = open_source(str(tmp_path / name), streaming=True)
        assert np.array_equal(decode(stream.first_images(1)[0]).permute(1, 2, 0).numpy(), picture(0)), name


def test_encoded_images_in_a_binary_column(tmp_path):
    dataset = datasets.Dataset.from_dict(
        {"raw": [encode(picture(n)) for n in range(2)], "species": ["owl", "ant"]},
        features=datasets.Features({"raw": datasets.Value("binary"), "species": datasets.Value("string")}),
    )
    dataset.to_parquet(tmp_path / "train.parquet")
    source = open_source(str(tmp_path), image_column="raw", label_column="species")
    assert is_pictures(shown(source), range(2))
    assert source.class_names == ("ant", "owl") and source.labels().tolist() == [1, 0]
    stream = open_source(str(tmp_path), image_column="raw", streaming=True)
    assert np.array_equal(decode(stream.first_images(1)[0]).permute(1, 2, 0).numpy(), picture(0))
    with pytest.raises(UsageError, match="no column of images, only 'raw', 'species'"):
        open_source(str(tmp_path))


def test_streams_know_their_rows_and_columns(tmp_path):
    parquet(tmp_path / "parquet", 10, files=2)
    tar_shards(tmp_path / "tar", 2, 3)
    image_files(tmp_path / "files", ["ant/0.png", "ant/1.png", "bee/0.png"])
    for kind, rows, column in (("parquet", 10, "image"), ("tar", None, "png"), ("files", 3, "image")):
        source = open_source(str(tmp_path / kind), streaming=True)
        assert source.num_rows == rows and source.image_column == column and source.streaming
        assert decode(source.first_images(1)[0]).shape == (3, 8, 8)
        with pytest.raises(UsageError, match="stream"):
            source.labels()
    with pytest.raises(UsageError, match="whole splits"):
        open_source(str(tmp_path / "parquet"), streaming=True, split="train[:5]")


def test_a_changed_file_is_read_again(tmp_path):
    parquet(tmp_path, 6)
    assert len(open_source(str(tmp_path))) == 6
    parquet(tmp_path, 9)
    assert len(open_source(str(tmp_path))) == 9


def test_the_fingerprint_is_of_the_content(tmp_path):
    prints = {
        name: open_source(str(parquet(tmp_path / name, rows, files=files))).fingerprint
        for name, rows, files in (("a", 9, 1), ("b", 9, 2), ("c", 8, 1))
    }
    assert prints["a"] == prints["b"] != prints["c"]
    (tmp_path / "d").mkdir()
    image_files(tmp_path / "d", [f"{n}.png" for n in range(9)])
    assert open_source(str(tmp_path / "d")).fingerprint == prints["a"]
    assert open_source(str(tmp_path / "d")).select([0, 2]).fingerprint != prints["a"]


def test_the_shared_size_of_small_images(tmp_path):
    assert open_source(str(parquet(tmp_path / "small", 4))).common_size() == 8
    assert open_source(str(parquet(tmp_path / "mixed", 4, size=None))).common_size() is None
    assert open_source(str(parquet(tmp_path / "large", 4, size=(97, 97)))).common_size() is None
    assert open_source(str(parquet(tmp_path / "bad", 4, broken={0: b"x"}))).common_size() == 8
    assert open_source(str(tmp_path / "small"), streaming=True).common_size() == 8


def test_bad_images_are_left_out_counted_and_named(tmp_path, caplog):
    source = open_source(str(parquet(tmp_path, 20, broken={3: b"", 8: b"junk"})))
    with caplog.at_level(logging.WARNING):
        rows = [decoded.row for decoded in decode_all(source, max_bad_fraction=0.1)]
    assert rows == [row for row in range(20) if row not in (3, 8)]
    assert "Image 3 (3.png) cannot be used: zero bytes." in caplog.messages
    with pytest.raises(
        HfSslError,
        match=r"2 of 20 images .*0\.05 allows.* 3 \(3\.png\): zero bytes; 8 \(8\.png\): not",
    ):
        list(decode_all(source, max_bad_fraction=0.05))
    assert [decoded.row for decoded in decode_all(source, rows=[2, 3, 4])] == [2, 4]
    with pytest.raises(HfSslError, match="1 of 3"):
        list(decode_all(source, rows=[2, 3, 4], max_bad_fraction=0))


def test_real_images():
    source = open_source(str(shared_data("cifar10")), config="mini", split="test")
    assert len(source) == 500 and source.num_classes == 10
    assert torch.equal(source.labels().bincount(), torch.full((10,), 50))
    assert decode(source.images([0])[0]).shape == (3, 32, 32)


def test_arrays_that_are_not_uint8_are_refused(tmp_path):
    features = datasets.Features({"pixels": datasets.Array2D((2, 2), "float32")})
    datasets.Dataset.from_dict({"pixels": [[[0.1, 0.2], [0.3, 0.4]]]}, features=features).to_parquet(
        tmp_path / "train.parquet"
    )
    with pytest.raises(UsageError, match="'pixels' holds arrays of float32; only arrays of uint8"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "{root}/photo"}, r"there is no folder '.*photo'\. Did you mean 'photos'\?"),
        ({"name": "./nowhere/at/all"}, r"there is no folder './nowhere/at/all'"),
        ({"name": "{root}/empty"}, r"holds no images and no data files \(it holds nothing\)"),
        ({"name": "{root}/text"}, r"holds no images and no data files \(it holds 1 with \.txt\)"),
        ({"name": "{root}/text/a.txt"}, r"is a file; give the folder"),
        ({"name": "{root}/photos", "split": "tests"}, r"no split 'tests'; there is 'train'"),
        (
            {"name": "{root}/parquet", "split": "tst"},
            r"no split 'tst'; there is 'train', 'test'\. Did you mean 'test'",
        ),
        ({"name": "{root}/parquet", "split": "train[a:]"}, r"--split train\[a:\] is no expression"),
        ({"name": "{root}/parquet", "split": "train[:0]"}, r"no rows; 'train' has 6 rows, 'test' has 3 rows"),
        ({"name": "{root}/parquet", "image_column": "img"}, r"no such column; there are 'image', 'label'"),
        ({"name": "{root}/parquet", "image_column": "imag"}, r"Did you mean 'image'\?"),
        ({"name": "{root}/parquet", "image_column": "label"}, r"--image_column label holds no images but ClassLabel"),
        ({"name": "{root}/parquet", "label_column": "lable"}, r"--label_column lable: .*Did you mean 'label'\?"),
        ({"name": "{root}/parquet", "label_column": "image"}, r"--label_column image holds no classes"),
        ({"name": "{root}/parquet", "config": "big"}, r"--dataset_config big: no such configuration .*'default'"),
        ({"name": "{root}/photos", "config": "big"}, r"--dataset_config big: .* has no configurations"),
        ({"name": "digits", "config": "big"}, r"--dataset_config big: 'digits' has no configurations"),
        ({"name": "{root}/two"}, r"several columns of images, 'left', 'right': name one with --image_column"),
        ({"name": "{root}/none"}, r"no column of images, only 'text'"),
    ],
)
def test_mistakes_are_told_in_one_sentence(tmp_path, arguments, sentence):
    image_files(tmp_path / "photos", ["a.png", "b.png"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("a")
    parquet(tmp_path / "parquet", 6)
    parquet(tmp_path / "parquet", 3, split="test")
    for name, columns in (("two", {"left": datasets.Image(), "right": datasets.Image()}), ("none", {})):
        (tmp_path / name).mkdir()
        rows = {column: [{"bytes": encode(picture(0)), "path": None}] for column in columns} | {"text": ["a"]}
        features = datasets.Features(columns | {"text": datasets.Value("string")})
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / name / "train.parquet")
    arguments = arguments | {"name": arguments["name"].format(root=tmp_path)}
    with pytest.raises(UsageError, match=sentence) as caught:
        open_source(**arguments)
    assert "\n" not in str(caught.value)


def test_torn_parquet_is_told_in_one_sentence(tmp_path):
    path = parquet(tmp_path, 6) / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(HfSslError, match="cannot be read as a data set") as caught:
        open_source(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_told_in_one_sentence(monkeypatch):
    def unreachable(name, config):
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub (ConnectTimeout)\nand more")

    monkeypatch.setattr(datasets, "load_dataset_builder", unreachable)
    with pytest.raises(HfSslError, match=r"no folder 'org/name' here, and the Hub could not be reached") as caught:
        open_source("org/name")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1


def test_an_unknown_hub_id_names_what_is_near(monkeypatch):
    def unknown(name, config):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'photo' doesn't exist on the Hub")

    monkeypatch.setattr(datasets, "load_dataset_builder", unknown)
    with pytest.raises(UsageError, match=r"no folder 'photo' here and no data set 'photo' .* Did you mean 'photos'\?"):
        open_source("photo")


def test_an_embedded_name_beside_a_folder_of_that_name_says_so(tmp_path, monkeypatch, caplog):
    image_files(tmp_path / "digits", ["a.png"])
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert len(open_source("digits")) == 1438
    assert "write './digits' for the folder" in caplog.text
    assert len(open_source("./digits")) == 1
