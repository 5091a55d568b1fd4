"""Images from anywhere to uint8 tensors, in an order that can be resumed exactly.

Training:    open_source(name, ...) -> Source;  make_batches(source, ...) -> Batches;  batches.iterate(...)
Probes:      open_probe(name, config, training) -> (bank, queries) | None
Evaluation:  open_pair(name, config=...) -> (bank, queries)
             source.labels() -> int64 (N,);  source.num_classes;  source.row_name(row);  source.select(rows)
             decode_all(source, channels, rows) -> iterator of (image uint8 (C, H, W), row)
             image_at(source, index, channels) -> uint8 (C, H, W), raises BadImage

Nothing here crops, resizes or normalises, except that workers cut the two crops of images too large to travel whole.
"""

from hf_ssl.data.assembling import Batch
from hf_ssl.data.batches import Batches, make_batches
from hf_ssl.data.decoding import BadImage, decode
from hf_ssl.data.probes import has_labels, open_pair, open_probe
from hf_ssl.data.reading import Decoded, decode_all, image_at
from hf_ssl.data.sources import Source, open_source

__all__ = [
    "BadImage",
    "Batch",
    "Batches",
    "Decoded",
    "Source",
    "decode",
    "decode_all",
    "has_labels",
    "image_at",
    "make_batches",
    "open_pair",
    "open_probe",
    "open_source",
]
