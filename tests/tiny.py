"""Small models of every method, and of combinations of base, heads, temperature and mix that have no name."""

import math
from typing import Any

import torch

from hf_ssl.methods import METHODS
from hf_ssl.modeling import SSLModel

OWN = {  # what makes a method small, beside the projector
    "moco": {"queue_length": 24},
    "amcl_moco": {"queue_length": 24},
    "moco_v3": {"predictor_dims": (16, 8)},
    "simsiam": {"predictor_dims": (4, 8)},
}
ADAPTIVE = {"num_heads": 3, "temperature_range": (0.1, 1.0)}
COMBINATIONS = {  # name -> base and settings
    "simclr+mix": ("simclr", {"mix_weight": 1.0}),
    "moco+mix": ("moco", {"mix_weight": 1.0}),
    "moco_v3+mix": ("moco_v3", {"mix_weight": 1.0}),
    "simsiam+mix": ("simsiam", {"mix_weight": 1.0}),
    "simclr+heads": ("simclr", {"num_heads": 2}),
    "moco_v3+temperature": ("moco_v3", {"temperature_range": (0.1, 1.0)}),
    "moco_v3+amcl+mix": ("moco_v3", {**ADAPTIVE, "mix_weight": 1.0}),
    "simsiam+amcl": ("simsiam", ADAPTIVE),
    "simsiam+amcl hard": ("simsiam", {**ADAPTIVE, "amcl_objective": "hard"}),
    "simclr+amcl+mix": ("amcl_simclr", {"mix_weight": 1.0}),
    "moco+amcl+mix": ("amcl_moco", {"mix_weight": 1.0}),
    "mixed_barlow_twins+amcl": ("mixed_barlow_twins", ADAPTIVE),
    "simclr+amcl hard": ("amcl_simclr", {"amcl_objective": "hard", "amcl_top_k": 3}),
    "moco+amcl hard": ("amcl_moco", {"amcl_objective": "hard", "amcl_top_k": 3}),
    "barlow_twins+amcl hard": ("amcl_barlow_twins", {"amcl_objective": "hard"}),
    "moco+cosine": ("moco", {"momentum_schedule": "cosine", "predictor_dims": (16, 8)}),
}
BUILDERS = {  # every registered method, and the combinations
    **{name: (method, OWN.get(name, {})) for name, method in METHODS.items()},
    **{name: (METHODS[base], OWN.get(base, {}) | own) for name, (base, own) in COMBINATIONS.items()},
}


def collapsed(name: str, rows: int) -> float | None:
    """What a batch of equal embeddings costs a head, where the formula says so in closed form."""
    if "amcl" in name or "temperature" in name:
        return None
    costs = {
        "barlow_twins": 8.0,  # the dimensions
        "mixed_barlow_twins": 8.0,
        "simclr": math.log(2 * rows - 1),
        "moco": math.log(OWN["moco"]["queue_length"] + 1),
        "moco_v3": 4 * 0.2 * math.log(rows),  # two directions times 2 T
        "simsiam": 0.0,  # its last BatchNorm makes zeros of constants
    }
    return costs[name.split("+")[0]]


def small_model(name: str, seed: int = 0, **settings: Any) -> SSLModel:
    """A model of `name` on timm's smallest ResNet: 16 hidden, 8 embedding dimensions unless said otherwise."""
    method, own = BUILDERS[name]
    torch.manual_seed(seed)
    return method(method.config_class(**{"backbone": "test_resnet", "projector_dims": (16, 8), **own, **settings}))


def views(rows: int = 6, seed: int = 0, size: int = 32, channels: int = 3) -> torch.Tensor:
    """Random views (rows, 2, channels, size, size)."""
    return torch.randn(rows, 2, channels, size, size, generator=torch.Generator().manual_seed(seed))
