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
from typing import Any, NoReturn

from transformers import HfArgumentParser

from hf_ssl.arguments import DataArguments, TrainingArguments, option
from hf_ssl.configuration import option_fields
from hf_ssl.errors import UsageError, did_you_mean, listing
from hf_ssl.methods import METHODS
from hf_ssl.recipe import as_words, read_recipe

DEFAULT_METHOD = "mixed_barlow_twins"


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
                if not isinstance(value, dict):
                    raise ValueError
            except ValueError:
                raise UsageError(f"--{name} takes JSON such as '{{\"key\": 1}}', not '{value}'.") from None
        values[name] = value
    return values
