"""Any timm model as the network that is trained: images (b, c, H, W) -> representations (b, F).

The network is timm's own module under timm's own names, so its weights are published without renaming.
"""

import logging
import re
from typing import Any

import timm
import torch
from torch import nn

from hf_ssl.configuration import SSLConfig
from hf_ssl.errors import HfSslError, UsageError, did_you_mean
from hf_ssl.small_stem import adapt_stem

logger = logging.getLogger(__name__)

RESERVED = {  # timm keywords that this package sets, and the option that stands for each
    "num_classes": "no option: the classifier is left out",
    "in_chans": "--in_chans",
    "pretrained": "--pretrained_backbone",
    "features_only": "no option: one vector per image is trained",
}


def backbone_arguments(config: SSLConfig) -> dict[str, Any]:
    """Return timm's keyword arguments for the configured backbone, as JSON types.

    Networks that are built for one input size, such as ViT, get `image_size`, unless `img_size` is given.
    """
    arguments = dict(config.backbone_kwargs)
    if config.in_chans != 3:
        arguments["in_chans"] = config.in_chans
    described = timm.models.get_pretrained_cfg(config.backbone, allow_unregistered=True) if _listed(config) else None
    if described is not None and described.fixed_input_size:
        arguments.setdefault("img_size", config.image_size)
    return arguments


def create_backbone(config: SSLConfig, *, pretrained: bool = False) -> nn.Module:
    """Build the configured timm model with its stem and without a classifier; `pretrained` loads timm's weights.

    Raises:
        UsageError: for a name that timm does not know, keyword arguments it does not take, or a stem that the
            network cannot have.
        HfSslError: if pretrained weights cannot be had.

    """
    name = config.backbone
    if ":" not in name and not timm.is_model(name):
        raise UsageError(f"timm has no model '{name}'.{did_you_mean(name, timm.list_models())}")
    for key in config.backbone_kwargs:
        if key in RESERVED:
            raise UsageError(f"backbone_kwargs must not set '{key}': use {RESERVED[key]}.")
    if pretrained and ":" not in name and not timm.models.is_model_pretrained(name):
        raise UsageError(f"timm has no pretrained weights for '{name}': leave --pretrained_backbone out.")
    arguments = {key: _as_tuples(value) for key, value in backbone_arguments(config).items()}
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=0, **arguments)
    except OSError as error:
        raise HfSslError(f"The pretrained weights of '{name}' could not be loaded: {_sentence(error)}") from error
    except Exception as error:
        raise _refusal(name, config.backbone_kwargs, error) from error
    try:
        return adapt_stem(network, config.stem)
    except ValueError as error:
        raise UsageError(
            f"{name} cannot have the stem '{config.stem}', which exists for timm's ResNets (resnet18, resnet50,"
            " resnet10t, resnext50_32x4d, ...): use --stem imagenet."
        ) from error


def compile_in_place(model: nn.Module) -> None:
    """Compile a model's backbone and its slow copy, weights' names kept; say so and go on where no compiler works."""
    try:
        torch.compile(torch.sin)(torch.zeros(1))
    except Exception as error:  # whatever a missing or broken tool chain raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        logger.warning("--compile: the compiler does not work here (%s); networks run as they are.", reason)
        return
    for name, part in model.named_modules():
        if name.split(".")[-1] == "backbone":
            part.compile()


def width(backbone: nn.Module) -> int:
    """Return F, the width of what `backbone` returns.

    Several families end in a layer after pooling that is wider than the feature map whose width `num_features` tells.
    """
    columns: Any = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    return int(columns)


def _listed(config: SSLConfig) -> bool:
    return ":" not in config.backbone and bool(timm.is_model(config.backbone))


def _as_tuples(value: Any) -> Any:
    """Turn lists, which are all that JSON has, into the tuples that timm expects."""
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _refusal(name: str, arguments: dict[str, Any], error: Exception) -> UsageError:
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown and unknown[1] in arguments:
        return UsageError(f"{name} has no keyword argument '{unknown[1]}': remove it from --backbone_kwargs.")
    return UsageError(f"timm cannot build {name} with {arguments}: {_sentence(error)}")


def _sentence(error: Exception) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__}"
