"""Reading published backbones: strictly, from a folder, the Hub or timm, and never by running a repository's code."""

import logging
import re
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hf_ssl import small_stem
from hf_ssl.errors import HfSslError, UsageError, did_you_mean, listing
from hf_ssl.files import read_json
from hf_ssl.preprocessing import Preprocess

logger = logging.getLogger(__name__)

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Encoder(nn.Module):
    """A finished backbone in eval mode: normalised images (b, C, S, S) to representations (b, F), float32."""

    def __init__(self, network: nn.Module, preprocess: Preprocess, name: str) -> None:
        super().__init__()
        self.network, self.preprocess, self.name = network, preprocess, name
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Represent images."""
        return self.network(images).to(torch.float32)


def open_model(name: str) -> Encoder:
    """Open a run's or published folder, a Hub id (org/name), or timm's own weights (timm:NAME).

    Raises:
        UsageError: if `name` is none of these, or the folder holds something else.
        HfSslError: if weights are missing, do not fit, or cannot be had.

    """
    if name.startswith("timm:"):
        return _open_timm(name.removeprefix("timm:"))
    folder = locate(name)
    config = read_json(folder / "config.json")
    if "architecture" in config and "pretrained_cfg" in config:
        network = _build(config["architecture"], config.get("model_args") or {}, "imagenet")
    elif config.get("model_type") == small_stem.SmallStemConfig.model_type:
        network = _build(config["backbone"], config["backbone_kwargs"], config["stem"])
    elif "projector_dims" in config:
        raise UsageError(f"'{name}' is a model in pretraining; name the folder that it is in.")
    else:
        raise UsageError(f"'{name}' holds a '{config.get('model_type')}', not a published backbone.")
    heads = config["pretrained_cfg"].get("classifier") or ()
    load_strictly(
        network, read_weights(folder / "model.safetensors"), name, (heads,) if isinstance(heads, str) else tuple(heads)
    )
    return Encoder(network, _preprocess(config["pretrained_cfg"], name), name)


def locate(name: str) -> Path:
    """Return the folder of a published model, downloaded if `name` is a Hub id.

    Raises:
        UsageError: if there is no such folder, or nothing published in it.
        HfSslError: if the Hub cannot be reached or has no such model.

    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"'{name}' holds no model: there is no config.json in it (a run writes it at its first save)."
            )
        return folder
    if not HUB_ID.fullmatch(name):
        raise UsageError(f"'{name}' is no folder; a model is a folder, a Hub id such as org/name, or timm:NAME.")
    try:
        files = ["config.json", "model.safetensors", "pretraining/*"]
        return Path(snapshot_download(name, allow_patterns=files))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()).split(". ")[0]
        raise HfSslError(f"'{name}' is no folder here and could not be had from the Hub: {reason}.") from error


def _open_timm(name: str) -> Encoder:
    if not timm.is_model(name):
        raise UsageError(f"timm has no model '{name}'.{did_you_mean(name, timm.list_models())}")
    if not timm.models.is_model_pretrained(name):
        raise UsageError(f"timm has no pretrained weights for '{name}'.")
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0]
        raise HfSslError(
            f"timm's weights of '{name}' are not on this machine and could not be downloaded: {reason}."
        ) from error
    return Encoder(network, _preprocess(dict(network.pretrained_cfg), f"timm:{name}"), f"timm:{name}")


def _build(architecture: str, arguments: dict[str, Any], stem: str) -> nn.Module:
    try:
        network = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
    except RuntimeError as error:
        raise HfSslError(f"timm {timm.__version__} cannot build '{architecture}': {error}") from error
    return small_stem.adapt_stem(network, stem)


def load_strictly(network: nn.Module, weights: dict[str, Tensor], name: str, heads: tuple[str, ...]) -> None:
    """Load `weights` and refuse what is missing or does not fit; a classifier's weights are passed over."""
    weights = {key: value for key, value in weights.items() if key.rpartition(".")[0] not in heads}
    own = network.state_dict()
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    other = sorted(key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape)
    for keys, fault in ((missing, "are missing"), (other, "have another shape"), (unknown, "are unknown")):
        if keys:
            raise HfSslError(f"{len(keys)} of {len(own)} weights {fault} in '{name}': {listing(keys, 3)}.")
    network.load_state_dict(weights)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; HfSslError if it is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise HfSslError(f"{path} cannot be read ({error}): the file is missing or damaged.") from error


def _preprocess(pretrained_cfg: dict[str, Any], name: str) -> Preprocess:
    try:
        return Preprocess.from_pretrained_cfg(pretrained_cfg)
    except ValueError as error:
        raise HfSslError(f"The images of '{name}' cannot be prepared: {error}.") from error
