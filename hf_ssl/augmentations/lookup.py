"""From what a user writes to a recipe: a name, AMCL's letters, or a YAML file."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from hf_ssl.augmentations.recipes import RECIPES, Recipe, ViewRecipe, symmetric
from hf_ssl.errors import UsageError, did_you_mean, listing

LETTERS = "abcde"


def get_recipe(recipe: str | Path | Recipe) -> Recipe:
    """Return the recipe of this name, of these AMCL letters, or in this YAML file; a `Recipe` comes back as it is.

    Raises `UsageError` for a name, letter order, file or field that does not exist.
    """
    if isinstance(recipe, Recipe):
        return recipe
    text = str(recipe)
    if text in RECIPES:
        return RECIPES[text]
    if text.endswith((".yaml", ".yml")):
        return _from_file(Path(text))
    if text and set(text) <= set(LETTERS):
        return _from_letters(text)
    raise UsageError(
        f"there is no augmentation '{text}': take {listing(RECIPES)}, a subset of the letters '{LETTERS}', "
        f"or a YAML file.{did_you_mean(text, RECIPES)}"
    )


def _from_letters(letters: str) -> Recipe:
    """AMCL's families with its published strengths: a crop, b blur, c grey, d colour, e flip.

    A letter that is absent is off: without a the view is the whole image (the authors' first release; their second
    crops with any letters, which makes a mean nothing).
    """
    ordered = "".join(letter for letter in LETTERS if letter in letters)
    if letters != ordered:
        raise UsageError(f"augmentation letters '{letters}' must be in order and each once: did you mean '{ordered}'?")
    view = ViewRecipe(
        crop_scale=(0.08, 1.0) if "a" in letters else (1.0, 1.0),
        blur=0.5 if "b" in letters else 0.0,
        grey=0.2 if "c" in letters else 0.0,
        jitter=0.8 if "d" in letters else 0.0,
        flip=0.5 if "e" in letters else 0.0,
    )
    return symmetric(letters, view, blur_kernel=3)


def _from_file(path: Path) -> Recipe:
    """Read a recipe's fields; a view's field at the top level holds for both, `view_a` and `view_b` go over it."""
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"augmentation file '{path}' cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError(f"augmentation file '{path}' must hold fields such as 'grey: 0.1'")
    shared = {name: fields.pop(name) for name in _names(ViewRecipe) if name in fields}
    for side in ("view_a", "view_b"):
        own = fields.get(side) or {}
        if not isinstance(own, dict):
            raise UsageError(f"'{side}' in augmentation file '{path}' must hold fields, not {own!r}")
        fields[side] = _build(ViewRecipe, shared | own, path)
    return _build(Recipe, {"name": path.stem} | fields, path)


def _build(kind: type[Any], fields: dict[str, Any], path: Path) -> Any:
    for name in fields:
        if name not in _names(kind):
            known = [*_names(Recipe), *_names(ViewRecipe)]
            raise UsageError(f"augmentation file '{path}' has no field '{name}'.{did_you_mean(str(name), known)}")
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise UsageError(f"augmentation file '{path}' holds a value of the wrong kind: {error}") from error


def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]
