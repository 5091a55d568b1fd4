"""The methods by name. A new one is a file beside this and one line here."""

from transformers import AutoConfig, AutoModel

from hf_ssl.methods.amcl import (
    AMCLBarlowTwinsConfig,
    AMCLBarlowTwinsModel,
    AMCLMoCoConfig,
    AMCLMoCoModel,
    AMCLSimCLRConfig,
    AMCLSimCLRModel,
)
from hf_ssl.methods.barlow_twins import BarlowTwinsConfig, BarlowTwinsModel
from hf_ssl.methods.mixed_barlow_twins import MixedBarlowTwinsConfig, MixedBarlowTwinsModel
from hf_ssl.methods.moco import MoCoConfig, MoCoModel
from hf_ssl.methods.moco_v3 import MoCoV3Config, MoCoV3Model
from hf_ssl.methods.simclr import SimCLRConfig, SimCLRModel
from hf_ssl.methods.simsiam import SimSiamConfig, SimSiamModel
from hf_ssl.modeling import SSLModel

__all__ = [
    "METHODS",
    "AMCLBarlowTwinsConfig",
    "AMCLBarlowTwinsModel",
    "AMCLMoCoConfig",
    "AMCLMoCoModel",
    "AMCLSimCLRConfig",
    "AMCLSimCLRModel",
    "BarlowTwinsConfig",
    "BarlowTwinsModel",
    "MixedBarlowTwinsConfig",
    "MixedBarlowTwinsModel",
    "MoCoConfig",
    "MoCoModel",
    "MoCoV3Config",
    "MoCoV3Model",
    "SimCLRConfig",
    "SimCLRModel",
    "SimSiamConfig",
    "SimSiamModel",
]

METHODS: dict[str, type[SSLModel]] = {
    "barlow_twins": BarlowTwinsModel,
    "mixed_barlow_twins": MixedBarlowTwinsModel,
    "simclr": SimCLRModel,
    "moco": MoCoModel,
    "moco_v3": MoCoV3Model,
    "simsiam": SimSiamModel,
    "amcl_simclr": AMCLSimCLRModel,
    "amcl_moco": AMCLMoCoModel,
    "amcl_barlow_twins": AMCLBarlowTwinsModel,
}

for _name, _model in METHODS.items():
    AutoConfig.register(_name, _model.config_class)
    AutoModel.register(_model.config_class, _model)
