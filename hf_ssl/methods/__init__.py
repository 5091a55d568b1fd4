"""The methods by name. A new one is a file beside this and one line here."""

from transformers import AutoConfig, AutoModel

from hf_ssl.methods.barlow_twins import BarlowTwinsConfig, BarlowTwinsModel
from hf_ssl.methods.mixed_barlow_twins import MixedBarlowTwinsConfig, MixedBarlowTwinsModel
from hf_ssl.modeling import SSLModel

__all__ = ["METHODS", "BarlowTwinsConfig", "BarlowTwinsModel", "MixedBarlowTwinsConfig", "MixedBarlowTwinsModel"]

METHODS: dict[str, type[SSLModel]] = {
    "barlow_twins": BarlowTwinsModel,
    "mixed_barlow_twins": MixedBarlowTwinsModel,
}

for _name, _model in METHODS.items():
    AutoConfig.register(_name, _model.config_class)
    AutoModel.register(_model.config_class, _model)
