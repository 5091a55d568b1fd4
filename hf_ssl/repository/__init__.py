"""A model as others load it: one flat folder that plain transformers and timm open without this package.

    config.json  model.safetensors    timm's backbone in transformers' TimmWrapper layout, under timm's own names
    pretraining/                      the whole model with its heads, for going on with the pretraining
    README.md  recipe.yaml  results.json

A stem that timm cannot express needs code to build it; then `small_stem.py` travels with the weights, and importing
this room registers its model type with transformers.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

from hf_ssl import small_stem
from hf_ssl.repository.opening import Encoder, locate, open_model
from hf_ssl.repository.publishing import publish_folder, published_config, refresh_card
from hf_ssl.repository.starting import load_weights

__all__ = [
    "Encoder",
    "load_weights",
    "locate",
    "open_model",
    "publish_folder",
    "published_config",
    "refresh_card",
]

AutoConfig.register(small_stem.SmallStemConfig.model_type, small_stem.SmallStemConfig)
AutoModel.register(small_stem.SmallStemConfig, small_stem.SmallStemModel)
AutoModelForImageClassification.register(small_stem.SmallStemConfig, small_stem.SmallStemForImageClassification)
