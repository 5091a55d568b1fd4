"""The probe of a running pretraining: weighted kNN on fixed, seeded rows of a labelled data set.

Where there are several heads, it also says whether they differ: kNN in each head's own space, and how alike the spaces
are.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from hf_ssl import functional as F
from hf_ssl.arguments import DataArguments, TrainingArguments
from hf_ssl.configuration import SSLConfig
from hf_ssl.data import Source, open_probe
from hf_ssl.errors import UsageError, listing
from hf_ssl.evaluation.features import Features, Prepared, prepare, represent, seeded_rows
from hf_ssl.evaluation.knn import knn_accuracy
from hf_ssl.evaluation.results import Result
from hf_ssl.evaluation.suite import evaluate
from hf_ssl.modeling import SSLModel
from hf_ssl.preprocessing import Preprocess

logger = logging.getLogger(__name__)

METRICS = ("knn/top1",)  # what the probe measures
BANK_ROWS, QUERY_ROWS = 10_000, 2_000  # enough for a curve, cheap enough to draw one
KEPT_BYTES = 2**27  # of prepared images, larger ones are decoded again for every probe


class KNNProbe:
    """Callable that gives {"knn/top1": accuracy} of a model's backbone (k 20, temperature 0.07).

    With several heads also "knn/head_C", the same of head C's embeddings, and "cka/heads", their mean pairwise CKA.
    """

    def __init__(
        self,
        bank: Source,
        queries: Source,
        preprocess: Preprocess,
        *,
        device: torch.device,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        self.bank, self.queries = (
            source.select(seeded_rows(len(source), most, seed))
            for source, most in ((bank, BANK_ROWS), (queries, QUERY_ROWS))
        )
        self.preprocess = preprocess
        self.device, self.batch_size, self.seed = device, batch_size, seed
        self.kept: dict[int, list[Prepared]] = {}

    def __call__(self, model: SSLModel) -> dict[str, float]:
        """Measure `model` in evaluation mode; its mode is left as it was."""
        training = model.training
        model.eval()
        try:
            bank, queries = map(partial(self._spaces, model), (self.bank, self.queries))
        finally:
            model.train(training)
        names = ["top1", *(f"head_{head}" for head in range(len(bank) - 1))]
        values = {f"knn/{name}": knn_accuracy(*pair) for name, *pair in zip(names, bank, queries, strict=True)}
        if len(bank) > 1:
            heads = torch.stack([space.embeddings for space in queries[1:]])
            values["cka/heads"] = float(F.mean_pairwise_cka(heads))
        return values

    def _spaces(self, model: SSLModel, source: Source) -> list[Features]:
        """Representations of `source` and, of several heads, the embeddings of each."""
        heads = model.config.num_heads if model.config.num_heads > 1 else 0

        def encode(images: Tensor) -> Tensor:
            representation = model.encode(images)
            return torch.cat([representation, *(model.projector(representation) if heads else ())], dim=-1)

        together = represent(encode, self._prepared(source), self.preprocess).labelled()
        width = model.config.projector_dims[-1]
        widths = [together.embeddings.shape[1] - heads * width, *[width] * heads]
        return [replace(together, embeddings=part) for part in together.embeddings.split(widths, dim=1)]

    def _prepared(self, source: Source) -> Iterable[Prepared]:
        """Images resized and cut; small ones are kept for the next time."""
        key = id(source)
        if key in self.kept:
            return self.kept[key]
        batches = prepare(source, self.preprocess, batch_size=self.batch_size, device=self.device)
        if len(source) * len(self.preprocess.mean) * self.preprocess.size**2 > KEPT_BYTES:
            return batches
        return self.kept.setdefault(key, list(batches))

    def rows(self, model: SSLModel, command: str) -> list[Result]:
        """Measure with every setting, as rows of results with intervals; `model` ends in evaluation mode."""
        return evaluate(
            model.eval().encode,
            self.preprocess,
            self.bank,
            self.queries,
            protocols=("knn",),
            seed=self.seed,
            batch_size=self.batch_size,
            device=self.device,
            command=command,
        )


def make_probe(
    data: DataArguments, arguments: TrainingArguments, source: Source, config: SSLConfig, device: torch.device
) -> KNNProbe | None:
    """The probe of a run on `source`, where there are labels.

    Raises:
        UsageError: if the metric to be kept is not measured, or the named probe data do not exist or have no labels.

    """
    if arguments.keep_best not in METRICS:
        raise UsageError(f"--keep_best takes {listing(METRICS)}, not '{arguments.keep_best}'.")
    pair = open_probe(data.probe_dataset, data.probe_config, source)
    if pair is None:
        logger.info("No labelled probe data: readings without labels stand in; --probe_dataset names some.")
        return None
    preprocess = Preprocess.for_training_size(config.image_size, config.image_mean or (), config.image_std or ())
    return KNNProbe(*pair, preprocess, device=device, batch_size=arguments.batch_size, seed=arguments.seed)
