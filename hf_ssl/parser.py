"""A parser for dataclasses whose refusals are one sentence, and for which nothing is a value too."""

import functools
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from transformers import HfArgumentParser

from hf_ssl.errors import UsageError, did_you_mean

NONE = "none"  # the word for nothing, where nothing is allowed
OWN_NONE = ("report_to",)  # there the word says more: no tracker, where nothing said means those installed


class Parser(HfArgumentParser):
    """transformers' parser with mistakes raised as `UsageError` and no abbreviated options."""

    def __init__(self, dataclass_types: Sequence[type], **arguments: Any) -> None:
        super().__init__(dataclass_types, allow_abbrev=False, **arguments)
        hints = [hint for kind in dataclass_types for hint in typing.get_type_hints(kind).items()]
        self.optional = {name for name, hint in hints if type(None) in typing.get_args(hint)}
        for action in self._actions:
            if action.dest in self.optional and action.dest not in OWN_NONE:
                action.type = _or_none(typing.cast(Callable[[str], Any], action.type))
                action.help = f"{action.help}; or the word {NONE}"

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
        for name, value in vars(namespace).items():
            if isinstance(value, list) and None in value:
                if len(value) > 1:
                    raise UsageError(f"--{name} takes the word {NONE} alone, or values.")
                setattr(namespace, name, None)
        return self.parse_dict(vars(namespace), allow_extra_keys=True)

    def default_to_none(self, names: Iterable[str]) -> None:
        """Let options be None where the words do not name them.

        Raises:
            UsageError: for one that is unknown, or that cannot be None.

        """
        known = [action.dest for action in self._actions]
        for name in names:
            if name not in known:
                raise UsageError(f"There is no option --{name}.{did_you_mean(name, known)}")
            if name not in self.optional:
                raise UsageError(f"{name} cannot be null: give it a value, or leave it out for its default.")
            self.set_defaults(**{name: None})


def _or_none(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    @functools.wraps(convert)  # argparse names the type in its refusal
    def read(word: str) -> Any:
        return None if word == NONE else convert(word)

    return read
