"""What a newcomer meets: one sentence on stderr that names the mistake and the remedy, and the right exit code."""

import pytest
from PIL import Image

from hf_ssl.cli import main


def said(capsys):
    lines = capsys.readouterr().err.splitlines()
    return next(line for line in lines if line.startswith("hf-ssl: "))


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(8):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(images / f"{number}.png")
    return images


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pretrian"], "Did you mean 'pretrain'"),
        (["pretrain", "--epoch", "3"], "There is no option --epoch. Did you mean 'epochs'"),
        (["pretrain"], "--dataset"),
        (["pretrain", "--dataset", "digits", "--backbone", "resnet81"], "timm has no model 'resnet81'. Did you mean"),
        (["pretrain", "--dataset", "digits", "--batch_size", "1"], "images of a batch"),
        (["pretrain", "--dataset", "digits", "--image_column", "img"], "image"),
        (["pretrain", "--dataset", "digits", "--split", "validation"], "'train'"),
        (["pretrain", "--dataset", "digits", "--batch_size", "100000"], "100000"),
        (["pretrain", "--dataset", "no/such/folder"], "no/such/folder"),
        (["pretrain", "--dataset", "digits", "--augmentation", "cifer"], "Did you mean 'cifar'"),
        (["pretrain", "--dataset", "digits", "--report_to", "wandbb"], "wandbb"),
        (["pretrain", "--dataset", "digits", "--init_from", "nowhere"], "nowhere"),
        (["pretrain", "--dataset", "digits", "--keep_best", "knn/top2"], "knn/top1"),
        (["pretrain", "--dataset", "digits", "--mixed_precision", "fp16"], "needs a GPU"),
        (["pretrain", "--dataset", "digits", "--backbone", "test_vit", "--image_size", "8"], "--image_size"),
        (["pretrain", "--dataset", "digits", "--image_mean", "0.5", "0.5", "0.5"], "--image_std"),
        (["evaluate", "nowhere", "--limit", "0"], "at least 1"),
        (["evaluate"], "Name a model"),
        (["evaluate", "nowhere"], "nowhere"),
        (["evaluate", "timm:resnet81"], "resnet81"),
        (["evaluate", "nowhere", "--protocols", "kNN"], "knn"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(capsys, monkeypatch, tmp_path, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert sentence in said(capsys)
    assert not any(tmp_path.iterdir())


def test_a_batch_larger_than_the_folder_names_both_numbers(capsys, folder):
    assert main(["pretrain", "--dataset", str(folder), "--batch_size", "16"]) == 2
    assert "16" in (line := said(capsys)) and "8" in line


def test_too_many_broken_images_stop_the_run_by_name(capsys, folder, tmp_path):
    for name in ("0.png", "1.png"):
        (folder / name).write_bytes(b"")
    words = ["--dataset", str(folder), "--batch_size", "4", "--max_steps", "1", "--backbone", "test_resnet"]
    assert main(["pretrain", *words, "--output_dir", str(tmp_path / "run")]) == 1
    assert "0.png" in said(capsys)


def test_help_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    assert "pretrain" in capsys.readouterr().out
