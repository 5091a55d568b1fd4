"""Features of a data set in one call: `hf_ssl.load_features("org/name", "photos")`."""

from typing import Any

import datasets
import torch

from hf_ssl.data import Source, open_source
from hf_ssl.evaluation.features import extract
from hf_ssl.repository import open_model


def load_features(
    model: str,
    dataset: str | Source,
    *,
    config: str | None = None,
    split: str = "train",
    image_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> datasets.Dataset:
    """Represent the images of a data set: rows of "row", "embedding" (F float32), "file_name" and "label" where known.

    model: a run's or published folder, a Hub id, or timm:NAME. dataset: a Hub id, a local folder, an embedded name
    ("photos", "digits"), or an opened `Source`; `limit` takes a seeded choice of its rows. `label` keeps the names of
    the classes. Images that cannot be read are left out; `row` says which ones are there.

    Raises:
        UsageError: if the model, data set, split or column does not exist.
        HfSslError: if weights do not fit, or no image can be read.

    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoder = open_model(model).to(device)
    if isinstance(dataset, str):
        source = open_source(dataset, config=config, split=split, image_column=image_column, label_column=label_column)
    else:
        source = dataset
    features = extract(
        encoder,
        source,
        encoder.preprocess,
        batch_size=batch_size,
        device=device,
        limit=limit,
        seed=seed,
        progress=progress,
    )
    columns: dict[str, Any] = {"row": features.rows}
    kinds: dict[str, Any] = {"row": datasets.Value("int64")}
    names = list(source.select(features.rows).file_names())
    if any(names):
        columns["file_name"], kinds["file_name"] = names, datasets.Value("string")
    if features.labels is not None:
        columns["label"] = features.labels.tolist()
        classes = source.class_names
        kinds["label"] = datasets.ClassLabel(names=list(classes)) if classes else datasets.Value("int64")
    columns["embedding"] = features.embeddings.numpy()
    kinds["embedding"] = datasets.List(datasets.Value("float32"), length=features.embeddings.shape[1])
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
