"""Starting a model from another's weights: its backbone, and whatever else of it fits."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_ssl.backbone import backbone_arguments
from hf_ssl.errors import HfSslError, UsageError, listing
from hf_ssl.files import read_json
from hf_ssl.modeling import SSLModel
from hf_ssl.repository.opening import load_strictly, locate, open_model, read_weights

logger = logging.getLogger(__name__)

SLOW, QUEUE = "momentum_encoder", "queue"  # parts of MoCo that are made from other parts


def load_weights(model: SSLModel, name: str) -> None:
    """Start `model` from another's weights: those of the backbone, and of every other part that fits.

    Raises:
        UsageError: if `name` is neither a folder nor a Hub id with a published model, or has another backbone.
        HfSslError: if its weights are not those of the backbone that it tells.

    """
    folder = locate(name)
    whole = folder / "pretraining" / "model.safetensors"
    given, own = _by_part(read_weights(whole) if whole.is_file() else {}), _by_part(model.state_dict())
    taken = [part for part in own if part in given and _shapes(given[part]) == _shapes(own[part])]
    if SLOW not in taken:
        taken = [part for part in taken if part != QUEUE]  # another network's keys would be no negatives of these
    if "backbone" not in taken:
        _load_backbone(model, folder, name)
    for part in taken:
        model.get_submodule(part).load_state_dict(given[part])
    if SLOW not in taken:
        model.restart_target()
    anew = [part for part in own if part not in (*taken, "backbone", SLOW)]
    if anew:
        kept = ["backbone", *(part for part in taken if part != "backbone")]
        logger.info("Taken from %s: %s; starting anew: %s.", name, listing(kept), listing(anew))


def _by_part(weights: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Weights of each of a model's parts (backbone, projector, ...) under the names that they have in it."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = value
    return parts


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in weights.items()}


def _load_backbone(model: SSLModel, folder: Path, name: str) -> None:
    """Load a published backbone; where it does not fit because it is another, say which."""
    try:
        load_strictly(model.backbone, open_model(name).network.state_dict(), name, ())
    except HfSslError as error:
        there, here = _published_backbone(read_json(folder / "config.json")), _own_backbone(model)
        if there == here or isinstance(error, UsageError):
            raise
        raise UsageError(
            f"'{name}' has backbone {there}, asked for {here}: ask for the same, or leave --init_from out."
        ) from error


def _published_backbone(config: dict[str, Any]) -> str:
    architecture = config.get("architecture") or config.get("backbone")
    arguments = config.get("model_args") or config.get("backbone_kwargs") or {}
    return _in_words(str(architecture), config.get("stem", "imagenet"), arguments)


def _own_backbone(model: SSLModel) -> str:
    described: dict[str, Any] = dict(getattr(model.backbone, "pretrained_cfg", None) or {})
    architecture = described.get("architecture") or model.config.backbone
    return _in_words(architecture, model.config.stem, backbone_arguments(model.config))


def _in_words(architecture: str, stem: str, arguments: dict[str, Any]) -> str:
    stem = "" if stem == "imagenet" else f" with stem {stem}"
    return f"{architecture}{stem}{f' {json.dumps(arguments, sort_keys=True)}' if arguments else ''}"
