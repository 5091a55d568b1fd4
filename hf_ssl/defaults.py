"""What a run was not told: worked out from its data, its method and its processes, and recorded with it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hf_ssl.augmentations import Recipe, get_recipe
from hf_ssl.data import Source
from hf_ssl.errors import UsageError
from hf_ssl.methods import METHODS
from hf_ssl.options import PretrainOptions

SMALL_SIZE, LARGE_SIZE = 64, 224  # up to the first, "cifar" views are the default; the second is for large images


def resolve(options: PretrainOptions, source: Source, num_processes: int, before: Mapping[str, Any]) -> Recipe:
    """Fill in what follows from the data and the processes: -> the recipe of the views.

    `before` is the record of the run that goes on: its groups of rows stay, whatever processes go on with it.

    Raises:
        UsageError: for means and deviations that do not fit the channels or each other.

    """
    arguments, settings = options.training, options.settings
    if "image_size" not in options.given:
        settings["image_size"] = source.common_size(settings["in_chans"]) or LARGE_SIZE
    recipe = get_recipe(arguments.augmentation or ("cifar" if settings["image_size"] <= SMALL_SIZE else "imagenet"))
    arguments.augmentation = arguments.augmentation or recipe.name
    if arguments.weight_decay is None:
        arguments.weight_decay = METHODS[options.method].default_weight_decay
    for name in ("image_mean", "image_std"):
        if settings[name] and len(settings[name]) != settings["in_chans"]:
            raise UsageError(
                f"--{name} takes {settings['in_chans']} numbers, one a channel, not {len(settings[name])}."
            )
    if (settings["image_mean"] is None) != (settings["image_std"] is None):
        raise UsageError("--image_mean and --image_std belong together: give both, or neither.")
    if settings["image_mean"] and settings["image_std"]:
        recipe = replace(recipe, mean=tuple(settings["image_mean"]), std=tuple(settings["image_std"]))
    settings["image_mean"], settings["image_std"] = map(list, recipe.statistics(settings["in_chans"]))
    if settings["mix_weight"] and arguments.mix_group_size is None:
        arguments.mix_group_size = before.get("mix_group_size")
    if settings.get("key_batch_norm_groups", 0) is None:
        config = METHODS[options.method].config_class(**settings)
        groups = config.key_groups(arguments.batch_size // num_processes, num_processes)
        settings["key_batch_norm_groups"] = before.get("key_batch_norm_groups", groups)
    return recipe
