"""Recipes: settings under a name, shipped with the package or read from a YAML file."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hf_ssl.errors import UsageError, did_you_mean, listing

RECORDED = ("versions", "num_processes")  # what a run's recipe.yaml adds to what was asked; not options


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    names = (path.name for path in resources.files("hf_ssl").joinpath("recipes").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def read_recipe(name: str) -> dict[str, Any]:
    """Read a recipe by its shipped name or from a YAML file.

    Raises:
        UsageError: if there is neither, naming the nearest recipe, or if the file is no mapping.

    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise UsageError(f"There is no recipe file '{name}'.")
        text = path.read_text(encoding="utf-8")
    elif name in recipe_names():
        text = resources.files("hf_ssl").joinpath("recipes", f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise UsageError(
            f"There is no recipe '{name}'.{did_you_mean(name, recipe_names())} Shipped: {listing(recipe_names(), 99)}."
        )
    try:
        recipe = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"The recipe '{name}' is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(recipe, dict):
        raise UsageError(f"The recipe '{name}' must be a list of `key: value` lines.")
    return {key: value for key, value in recipe.items() if key not in RECORDED}


def as_words(recipe: dict[str, Any]) -> list[str]:
    """A recipe as command-line words, but for its nulls: `none` is a word that some options take as a value."""
    words: list[str] = []
    for key, value in recipe.items():
        if value is None:
            continue
        words.append(f"--{key}")
        if key == "mixed_precision" and value is False:
            words.append("no")  # YAML reads a bare no as false
        elif isinstance(value, dict):
            words.append(json.dumps(value))
        elif isinstance(value, list | tuple):
            words.extend(str(item) for item in value)
        else:
            words.append(str(value).lower() if isinstance(value, bool) else str(value))
    return words


def changed_keys(old: dict[str, Any], new: dict[str, Any], free: Sequence[str]) -> list[str]:
    """Keys on which two recipes differ, leaving out those in `free` and those that an older version did not know."""
    keys = (set(old) & set(new)) - set(free)
    return sorted(key for key in keys if _plain(old.get(key)) != _plain(new.get(key)))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
