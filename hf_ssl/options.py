"""From a recipe and a command line to typed settings: class defaults < recipe < command line, one flat namespace.

A recipe's values travel as command-line words in front of the user's own, so both are read, typed and refused by
the same parser, and a misspelt key is caught wherever it stands.
"""

import argparse
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

from hf_ssl.arguments import DataArguments, TrainingArguments, option
from hf_ssl.configuration import option_fields
from hf_ssl.errors import UsageError, did_you_mean, listing
from hf_ssl.methods import METHODS

DEFAULT_METHOD = "mixed_barlow_twins"
RECORDED = ("versions", "num_processes")  # what a run's recipe.yaml adds to what was asked; not options


@dataclass
class PretrainOptions:
    """Everything `pretrain` was told: the method, its settings, and the arguments of data and training."""

    method: str
    settings: dict[str, Any]
    data: DataArguments
    training: TrainingArguments
    given: set[str]  # the keys that a recipe or the command line named


class Parser(HfArgumentParser):
    """transformers' parser with mistakes raised as `UsageError` and no abbreviated options."""

    def __init__(self, dataclass_types: Sequence[type], **arguments: Any) -> None:
        super().__init__(dataclass_types, allow_abbrev=False, **arguments)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage of a hundred options."""
        raise UsageError(message[0].upper() + message[1:] + ".")

    def parse(self, words: Sequence[str]) -> tuple[Any, ...]:
        """Parse `words` into one instance per dataclass.

        Raises:
            UsageError: for an unknown option (naming the nearest known one) or a value of the wrong type.

        """
        namespace, unknown = self.parse_known_args(list(words))
        for word in unknown:
            if word.startswith("--"):
                name = word[2:].split("=")[0]
                known = [action.dest for action in self._actions]
                raise UsageError(f"There is no option --{name}.{did_you_mean(name, known)}")
        if unknown:
            raise UsageError(f"'{unknown[0]}' belongs to no option; options start with two dashes.")
        return self.parse_dict(vars(namespace), allow_extra_keys=True)


def _parser_type(annotation: Any) -> Any:
    """The argparse type of a config field: `float | int` is float, a sequence is a list, a dict is JSON text."""
    members = set(typing.get_args(annotation)) if isinstance(annotation, types.UnionType) else {annotation}
    optional = type(None) in members
    members.discard(type(None))
    origins = {typing.get_origin(member) or member for member in members}
    plain: Any
    if dict in origins:
        plain = str
    elif origins & {list, tuple}:
        sequence = next(member for member in members if typing.get_origin(member) in (list, tuple))
        plain = list[float] if "float" in str(typing.get_args(sequence)) else list[int]
    elif float in origins:
        plain = float
    elif len(origins) == 1:
        plain = origins.pop()
    else:
        raise TypeError(f"no command-line form for {annotation}")
    return plain | None if optional else plain


def settings_dataclass(config_class: type) -> type:
    """A dataclass of the method's own config fields, in the form that the argument parser reads."""
    members = []
    for name, (annotation, default, text) in option_fields(config_class).items():
        help_line = text.split(" (default:")[0].replace("%", "%%")  # argparse adds the default by itself
        plain = json.dumps(default) if isinstance(default, dict) else default
        plain = list(plain) if isinstance(plain, tuple) else plain
        members.append((name, _parser_type(annotation), option(plain, help_line)))
    return make_dataclass("Settings", members)


def pretrain_parser(method: str) -> Parser:
    """The parser of `pretrain` for one method: its config's fields beside those of data and training."""
    parser = Parser(
        [settings_dataclass(METHODS[method].config_class), DataArguments, TrainingArguments],
        prog="hf-ssl pretrain",
        description="Pretrain a timm backbone on images without labels.",
    )
    parser.add_argument("--recipe", help="name of a shipped recipe, or a YAML file, whose keys are the options below")
    parser.add_argument("--method", default=method, help=f"one of {', '.join(METHODS)}")
    return parser


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
    """A recipe as command-line words; a null leaves the default."""
    words: list[str] = []
    for key, value in recipe.items():
        if value is None or value == []:
            continue
        words.append(f"--{key}")
        if isinstance(value, dict):
            words.append(json.dumps(value))
        elif isinstance(value, list | tuple):
            words.extend(str(item) for item in value)
        else:
            words.append(str(value).lower() if isinstance(value, bool) else str(value))
    return words


def _named(words: Sequence[str]) -> set[str]:
    return {word[2:].split("=")[0] for word in words if word.startswith("--")}


def parse_pretrain(words: Sequence[str]) -> PretrainOptions:
    """Read the words after `pretrain`.

    Raises:
        UsageError: for an unknown recipe, method, key or value.

    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--recipe")
    first.add_argument("--method")
    chosen, rest = first.parse_known_args(list(words))
    recipe = read_recipe(chosen.recipe) if chosen.recipe else {}
    method = chosen.method or recipe.get("method") or DEFAULT_METHOD
    if method not in METHODS:
        raise UsageError(f"There is no method '{method}'.{did_you_mean(method, METHODS)} Known: {listing(METHODS)}.")
    if chosen.recipe and recipe.get("method", method) != method:
        raise UsageError(
            f"The recipe '{chosen.recipe}' is for {recipe['method']}, not {method}: choose another recipe, "
            "or leave --method out."
        )
    recipe.pop("method", None)
    words = [*as_words(recipe), *rest]
    settings, data, training, *_ = pretrain_parser(method).parse(words)
    return PretrainOptions(method, _decoded(settings, METHODS[method].config_class), data, training, _named(words))


def _decoded(settings: Any, config_class: type) -> dict[str, Any]:
    """Settings as config values: JSON text read back where the field is a dict."""
    values: dict[str, Any] = {}
    for name, (_, default, _) in option_fields(config_class).items():
        value = getattr(settings, name)
        if isinstance(default, dict) and isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                raise UsageError(f"--{name} takes JSON such as '{{\"key\": 1}}', not '{value}'.") from None
        values[name] = value
    return values


def changed_keys(old: dict[str, Any], new: dict[str, Any], free: Sequence[str]) -> list[str]:
    """Keys on which two recipes differ, leaving out those in `free`."""
    keys = (set(old) | set(new)) - set(free)
    return sorted(key for key in keys if _plain(old.get(key)) != _plain(new.get(key)))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
