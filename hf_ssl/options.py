"""From a recipe and a command line to typed settings: class defaults < recipe < command line, one flat namespace.

A recipe's values travel as command-line words in front of the user's own, so both are read, typed and refused by
the same parser, and a misspelt key is caught wherever it stands.
"""

import argparse
import json
import logging
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from typing import Any

from hf_ssl.arguments import DataArguments, TrainingArguments, option
from hf_ssl.configuration import option_fields
from hf_ssl.errors import UsageError, did_you_mean, listing
from hf_ssl.methods import METHODS
from hf_ssl.parser import Parser
from hf_ssl.recipe import as_words, read_recipe

logger = logging.getLogger(__name__)

DEFAULT_METHOD = "mixed_barlow_twins"
OF_THE_DATA = ("dataset_config", "split", "image_column")  # what is true of a recipe's own data set only


@dataclass
class PretrainOptions:
    """Everything `pretrain` was told: the method, its settings, and the arguments of data and training."""

    method: str
    settings: dict[str, Any]
    data: DataArguments
    training: TrainingArguments
    given: set[str]  # the keys that a recipe or the command line named


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
    elif typing.Literal in origins:
        plain = next(iter(members))
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


def _named(words: Sequence[str]) -> set[str]:
    return {word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--")}


def parse_pretrain(words: Sequence[str]) -> PretrainOptions:
    """Read the words after `pretrain`.

    Raises:
        UsageError: for an unknown recipe, method, key or value.

    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--recipe")
    first.add_argument("--method")
    first.add_argument("--dataset")
    try:
        chosen, rest = first.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name}: {error.message}.") from None
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
    if "epochs" in _named(rest):
        recipe.pop("max_steps", None)  # it would win over the epochs, which are asked for by the command line
    if chosen.dataset is not None:
        rest += ["--dataset", chosen.dataset]
        if recipe.get("dataset") not in (None, chosen.dataset):
            foreign = [key for key in OF_THE_DATA if recipe.pop(key, None) is not None and key not in _named(rest)]
            if foreign:
                logger.info("The recipe's %s is for %s and not taken.", listing(foreign), recipe["dataset"])
    words = [*as_words(recipe), *rest]
    nulls = {name.replace("-", "_") for name, value in recipe.items() if value is None}
    parser = pretrain_parser(method)
    parser.default_to_none(nulls)
    settings, data, training, *_ = parser.parse(words)
    given = _named(words) | nulls
    return PretrainOptions(method, _decoded(settings, METHODS[method].config_class), data, training, given)


def _decoded(settings: Any, config_class: type) -> dict[str, Any]:
    """Settings as config values: JSON text read back where the field is a dict."""
    values: dict[str, Any] = {}
    for name, (_, default, _) in option_fields(config_class).items():
        value = getattr(settings, name)
        if isinstance(default, dict) and isinstance(value, str):
            try:
                value = json.loads(value)
                if not isinstance(value, dict):
                    raise ValueError
            except ValueError:
                raise UsageError(f"--{name} takes JSON such as '{{\"key\": 1}}', not '{value}'.") from None
        values[name] = value
    return values
