"""The probe of a run: kNN of the representation, and whether several heads differ."""

import pytest
import torch
from picture_files import parquet
from tiny import small_model

from hf_ssl import functional as F
from hf_ssl.data import open_pair
from hf_ssl.evaluation.features import extract
from hf_ssl.evaluation.knn import knn_accuracy
from hf_ssl.monitor import KNNProbe
from hf_ssl.preprocessing import Preprocess

PREPROCESS = Preprocess.for_training_size(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    parquet(folder, rows=90)
    parquet(folder, rows=60, split="test")
    return open_pair(str(folder))


def test_one_head_is_not_compared_with_itself(pair):
    model = small_model("simclr")
    values = KNNProbe(*pair, PREPROCESS, device=torch.device("cpu"))(model)
    expected = knn_accuracy(*(extract(model.eval().encode, source, PREPROCESS) for source in pair))
    assert values == {"knn/top1": expected}


def test_every_head_is_measured_in_its_own_space(pair):
    """Bug: columns of one head taken for another's, or measured in training mode, which also moves the statistics."""
    model = small_model("amcl_moco").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    values = KNNProbe(*pair, PREPROCESS, device=torch.device("cpu"), batch_size=32)(model)
    assert model.training
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    model.eval()
    spaces = [model.encode, *(lambda images, head=head: model.embed(images)[head] for head in range(3))]
    features = [[extract(space, source, PREPROCESS) for source in pair] for space in spaces]
    names = ("knn/top1", "knn/head_0", "knn/head_1", "knn/head_2")
    for name, (bank, queries) in zip(names, features, strict=True):
        assert values.pop(name) == knn_accuracy(bank, queries), name
    heads = torch.stack([queries.embeddings for _, queries in features[1:]])
    assert values.pop("cka/heads") == pytest.approx(float(F.mean_pairwise_cka(heads)), rel=1e-4)
    assert not values
