"""How `transformers` learns of this package's model types without being imported.

`import hf_ssl` has to be quick, and `transformers` is not. So the model types are announced to its Auto classes in the
moment in which these are first imported, wherever that happens; the classes behind a type are imported when a saved
model of that type is first opened.
"""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

AUTO = "transformers.models.auto.configuration_auto"

METHOD_TYPES = (
    *("barlow_twins", "mixed_barlow_twins", "simclr", "moco", "moco_v3", "simsiam"),
    *("amcl_simclr", "amcl_moco", "amcl_barlow_twins"),
)
MODEL_TYPES = {  # model type -> module whose import registers the classes of that type
    **dict.fromkeys(METHOD_TYPES, "hf_ssl.methods"),
    "hf_ssl_backbone": "hf_ssl.repository",
}


def announce() -> None:
    """Tell `transformers` the model types, now if its Auto classes are imported and otherwise when they will be."""
    if AUTO in sys.modules:
        _register(sys.modules[AUTO])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register(auto: ModuleType) -> None:
    for model_type, module in MODEL_TYPES.items():
        if model_type not in auto.CONFIG_MAPPING:
            auto.AutoConfig.register(model_type, _placeholder(model_type, module))


def _placeholder(model_type: str, module: str) -> type:
    """Make a class that stands for a configuration class until it is used."""

    def real() -> Any:
        importlib.import_module(module)  # registers the real class in this one's place
        return sys.modules[AUTO].CONFIG_MAPPING[model_type]

    class Placeholder:
        def __new__(cls, *arguments: Any, **options: Any) -> Any:
            return real()(*arguments, **options)

        @classmethod
        def from_dict(cls, *arguments: Any, **options: Any) -> Any:
            return real().from_dict(*arguments, **options)

        @classmethod
        def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
            return real().from_pretrained(*arguments, **options)

    return Placeholder


class _Finder(MetaPathFinder):
    """Finds the module of the Auto classes as Python would, and has it followed by the registration."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != AUTO:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """The loader that Python found, with one more step at the end."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _register(module)
