"""Which labels a probe or an evaluation uses, and that it says so."""

import logging
from dataclasses import replace

import datasets
import pytest
from picture_files import image_files, parquet

from hf_ssl.data import open_pair, open_probe, open_source
from hf_ssl.errors import UsageError


@pytest.fixture(autouse=True)
def a_cache_of_our_own(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def test_the_training_datas_own_test_split_is_used_with_a_notice(tmp_path, caplog):
    parquet(tmp_path, 12)
    parquet(tmp_path, 6, split="test")
    training = open_source(str(tmp_path), split="train[:9]")
    with caplog.at_level(logging.INFO):
        bank, queries = open_probe(None, None, training)
    assert bank is training and queries.split == "test" and len(queries) == 6
    assert "queries 'test'; training never sees them" in caplog.text


def test_validation_stands_in_for_a_test_split_that_is_absent_unlabelled_or_trained_on(tmp_path):
    parquet(tmp_path / "absent", 6)
    parquet(tmp_path / "absent", 3, split="validation")
    image_files(tmp_path / "unlabelled", ["train/a/0.png", "train/b/0.png", "val/a/1.png", "val/b/1.png"])
    for name in ("absent", "unlabelled"):
        assert open_probe(None, None, open_source(str(tmp_path / name)))[1].split == "validation"
    parquet(tmp_path / "both", 6)
    parquet(tmp_path / "both", 4, split="test")
    parquet(tmp_path / "both", 3, split="validation")
    assert open_probe(None, None, open_source(str(tmp_path / "both"), split="train+test"))[1].split == "validation"
    assert open_probe(None, None, open_source(str(tmp_path / "both"), split="train+test[:1]+validation")) is None


def test_no_labels_is_the_ordinary_path(tmp_path):
    image_files(tmp_path / "flat", ["a.png", "b.png"])
    parquet(tmp_path / "train-only", 6)
    parquet(tmp_path / "bare", 6, labels=False)
    parquet(tmp_path / "bare", 6, labels=False, split="test")
    for name in ("flat", "train-only", "bare"):
        assert open_probe(None, None, open_source(str(tmp_path / name))) is None


def test_test_labels_that_are_all_missing_do_not_count(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    parquet(tmp_path, 6)
    hidden = datasets.Dataset.from_dict({"image": [None] * 2, "label": [-1, None]}, features=features)
    hidden.to_parquet(tmp_path / "test-00000-of-00001.parquet")
    assert open_probe(None, None, open_source(str(tmp_path))) is None


def test_a_local_stream_is_opened_again_for_its_probe(tmp_path):
    parquet(tmp_path, 12)
    parquet(tmp_path, 6, split="test")
    bank, queries = open_probe(None, None, open_source(str(tmp_path), streaming=True))
    assert len(bank.labels()) == 12 and len(queries.labels()) == 6


def test_a_stream_from_the_hub_is_not_read_twice(tmp_path, caplog):
    parquet(tmp_path, 12)
    parquet(tmp_path, 6, split="test")
    training = replace(open_source(str(tmp_path), streaming=True), name="org/name", root=None)
    with caplog.at_level(logging.INFO):
        assert open_probe(None, None, training) is None
    assert "name --probe_dataset" in caplog.text


def test_a_named_probe(tmp_path):
    image_files(tmp_path / "flat", ["a.png", "b.png"])
    training = open_source(str(tmp_path / "flat"))
    bank, queries = open_probe("digits", None, training)
    assert (len(bank), len(queries)) == (1438, 359)
    with pytest.raises(UsageError, match=r"\(train\) has no labels: its columns are 'image'; .*--label_column"):
        open_probe(str(tmp_path / "flat"), None, training)


def test_a_fifth_of_the_only_split_is_held_out(tmp_path, caplog):
    parquet(tmp_path, 30, split="validation")
    with caplog.at_level(logging.INFO):
        bank, queries = open_pair(str(tmp_path), seed=1)
    assert len(bank) == 24 and len(queries) == 6
    assert "a seeded fifth of 'validation' is held out" in caplog.text
    names = [set(source.file_names()) for source in (bank, queries)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 30
    again, other = open_pair(str(tmp_path), seed=1), open_pair(str(tmp_path), seed=2)
    assert set(again[1].file_names()) == names[1] != set(other[1].file_names())


def test_splits_that_are_named(tmp_path):
    parquet(tmp_path, 12)
    parquet(tmp_path, 6, split="test")
    bank, queries = open_pair(str(tmp_path), train_split="test", test_split="train[:4]")
    assert (len(bank), len(queries)) == (6, 4)
    with pytest.raises(UsageError, match=r"--test_split tset: there is no split 'tset'.*Did you mean 'test'"):
        open_pair(str(tmp_path), test_split="tset")


def test_a_class_means_the_same_in_bank_and_queries(tmp_path):
    for split, names in (("train", ["owl", "ant", "bee"]), ("test", ["owl", "cat", "ant"])):
        features = datasets.Features({"image": datasets.Image(), "species": datasets.Value("string")})
        columns = {"image": [None] * 3, "species": names}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / f"{split}.parquet")
    bank, queries = open_pair(str(tmp_path), label_column="species")
    assert bank.class_names == queries.class_names == ("ant", "bee", "cat", "owl")
    assert bank.labels().tolist() == [3, 0, 1] and queries.labels().tolist() == [3, 2, 0]


def test_classes_are_matched_by_name_when_the_splits_number_them_differently():
    from hf_ssl.data import probes

    def labelled(names, labels):
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        return datasets.Dataset.from_dict({"image": [None] * len(labels), "label": labels}, features=features)

    training = open_source("digits")
    bank = replace(training, dataset=labelled(["cat", "dog"], [0, 1, -1]), class_names=("cat", "dog"))
    queries = replace(training, dataset=labelled(["dog", "cat"], [0, 1]), class_names=("dog", "cat"))
    bank, queries = probes._same_classes(bank, queries)
    assert bank.class_names == queries.class_names
    names = [[source.class_names[i] if i >= 0 else None for i in source.labels()] for source in (bank, queries)]
    assert names == [["cat", "dog", None], ["dog", "cat"]]
