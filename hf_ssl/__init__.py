"""Self-supervised pretraining of any timm backbone: train without labels, prove the features, publish, load.

    import hf_ssl
    model = hf_ssl.AutoSSLModel.from_pretrained("run/pretraining")
    representation = model.encode(images)  # (b, F)

Names are imported when they are first used; importing the package takes milliseconds. It also makes plain
`transformers.AutoModel` open what was pretrained here.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hf_ssl import registration

if TYPE_CHECKING:
    from hf_ssl import functional
    from hf_ssl.auto import AutoSSLModel
    from hf_ssl.configuration import SSLConfig
    from hf_ssl.errors import HfSslError, UsageError
    from hf_ssl.hub.load import load_features
    from hf_ssl.methods import (
        METHODS,
        AMCLBarlowTwinsConfig,
        AMCLBarlowTwinsModel,
        AMCLMoCoConfig,
        AMCLMoCoModel,
        AMCLSimCLRConfig,
        AMCLSimCLRModel,
        BarlowTwinsConfig,
        BarlowTwinsModel,
        MixedBarlowTwinsConfig,
        MixedBarlowTwinsModel,
        MoCoConfig,
        MoCoModel,
        MoCoV3Config,
        MoCoV3Model,
        SimCLRConfig,
        SimCLRModel,
        SimSiamConfig,
        SimSiamModel,
    )
    from hf_ssl.modeling import SSLModel
    from hf_ssl.outputs import SSLOutput

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "AMCLBarlowTwinsConfig",
    "AMCLBarlowTwinsModel",
    "AMCLMoCoConfig",
    "AMCLMoCoModel",
    "AMCLSimCLRConfig",
    "AMCLSimCLRModel",
    "AutoSSLModel",
    "BarlowTwinsConfig",
    "BarlowTwinsModel",
    "HfSslError",
    "MixedBarlowTwinsConfig",
    "MixedBarlowTwinsModel",
    "MoCoConfig",
    "MoCoModel",
    "MoCoV3Config",
    "MoCoV3Model",
    "SSLConfig",
    "SSLModel",
    "SSLOutput",
    "SimCLRConfig",
    "SimCLRModel",
    "SimSiamConfig",
    "SimSiamModel",
    "UsageError",
    "functional",
    "load_features",
]

_HOMES = {
    "METHODS": "methods",
    "AutoSSLModel": "auto",
    "HfSslError": "errors",
    "SSLConfig": "configuration",
    "SSLModel": "modeling",
    "SSLOutput": "outputs",
    "UsageError": "errors",
    "load_features": "hub.load",
}

registration.announce()


def __getattr__(name: str) -> Any:
    """Import a public name's home on first use; the methods' own classes live in `methods`."""
    if name not in __all__:
        raise AttributeError(f"module 'hf_ssl' has no attribute '{name}'")
    if name == "functional":
        return importlib.import_module("hf_ssl.functional")
    value = getattr(importlib.import_module(f"hf_ssl.{_HOMES.get(name, 'methods')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
