"""A timm ResNet whose first layers are made for small images, as a model that `transformers` can load.

timm's ResNets begin with a stride of 2 and a max-pooling: an image of 32 pixels is 8 pixels wide before the first
block sees it. Contrastive papers on small images therefore start with one 3x3 convolution of stride 1, and for
CIFAR leave the pooling out. No keyword of timm expresses that, so a model with such a stem is published together
with this file, which needs nothing but torch, timm and transformers:

    AutoModel.from_pretrained("org/name", trust_remote_code=True)    # or, without the flag, after `import hf_ssl`
"""

from typing import Any

import timm
import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput

STEMS = ("imagenet", "small", "small_nopool")


def has_large_stem(network: Any) -> bool:
    """Whether `adapt_stem` could make the network keep more of a small image."""
    if not isinstance(network, timm.models.resnet.ResNet):
        return False
    first: Any = network.conv1[0] if isinstance(network.conv1, nn.Sequential) else network.conv1
    return tuple(first.stride) != (1, 1)


def adapt_stem(network: Any, stem: str) -> Any:
    """Give a timm ResNet its stem, in place, and return it.

    "imagenet" leaves it as timm made it; "small" makes the first convolution 3x3 with stride 1 (deep stems, which
    are 3x3 already, only lose the stride); "small_nopool" also drops the max-pooling. A replaced convolution is
    initialised as timm initialises it.

    Raises:
        ValueError: if `stem` is unknown or the network is none of timm's ResNets.

    """
    if stem not in STEMS:
        raise ValueError(f"the stem '{stem}' is none of {', '.join(STEMS)}")
    if stem == "imagenet":
        return network
    if not isinstance(network, timm.models.resnet.ResNet):
        raise ValueError(f"the stem '{stem}' is made for timm's ResNets, not for {type(network).__name__}")
    if isinstance(network.conv1, nn.Sequential):
        first: Any = network.conv1[0]
        first.stride = (1, 1)
    else:
        old = network.conv1
        network.conv1 = nn.Conv2d(old.in_channels, old.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if stem == "small_nopool":
        network.maxpool = nn.Identity()
    return network


@strict
class SmallStemConfig(PreTrainedConfig):
    """What to build: a timm name with its keywords, and the stem. timm finds no name it knows here, and so refuses."""

    model_type = "hf_ssl_backbone"

    backbone: str = "resnet18"
    backbone_kwargs: dict[str, Any] | None = None
    stem: str = "small"
    num_features: int = 512


class SmallStemPreTrainedModel(PreTrainedModel):
    """What both models share; weights carry timm's own names, without a prefix, in the file."""

    config_class = SmallStemConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    backbone: Any  # one of timm's ResNets

    def __init__(self, config: SmallStemConfig, **head: Any) -> None:
        super().__init__(config)
        network = timm.create_model(config.backbone, pretrained=False, **(config.backbone_kwargs or {}), **head)
        self.backbone = adapt_stem(network, config.stem)
        for tensor in (*self.parameters(), *self.buffers()):
            if not tensor.is_meta:
                tensor._is_hf_initialized = True  # else post_init would draw timm's weights anew
        self.post_init()


class SmallStemModel(SmallStemPreTrainedModel):
    """Images to representations: `last_hidden_state` (b, F, h, w) and `pooler_output` (b, F)."""

    def __init__(self, config: SmallStemConfig) -> None:
        super().__init__(config, num_classes=0)

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Run the network on images (b, C, H, W), prepared by the repository's image processor."""
        maps = self.backbone.forward_features(pixel_values.to(self.device, self.dtype))
        return BaseModelOutputWithPooling(last_hidden_state=maps, pooler_output=self.backbone.forward_head(maps))


class SmallStemForImageClassification(SmallStemPreTrainedModel):
    """The same network with a fresh linear classifier under timm's own name, for fine-tuning."""

    def __init__(self, config: SmallStemConfig) -> None:
        super().__init__(config, num_classes=config.num_labels)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **_: Any) -> ImageClassifierOutput:
        """Return logits (b, num_labels), and the cross-entropy where int64 labels (b,) are given."""
        logits = self.backbone(pixel_values.to(self.device, self.dtype))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels.to(logits.device))
        return ImageClassifierOutput(loss=loss, logits=logits)
