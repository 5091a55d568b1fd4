"""The card of a published model: a pure function of its configuration, its recipe and its measured results.

Nothing on a card is typed by hand or guessed: no licence, and no number that results.json does not hold.
"""

from pathlib import PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

SHARES = ("top1", "top5", "mean_class", "map", "map50")  # metrics that are fractions, shown as percent
RECIPE_LINES = (
    "dataset",
    "dataset_config",
    "split",
    "augmentation",
    "image_size",
    "max_steps",
    "batch_size",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "warmup_epochs",
    "mixed_precision",
    "seed",
)


def model_card(config: dict[str, Any], recipe: dict[str, Any], results: list[dict[str, Any]]) -> str:
    """Write README.md of a published model.

    config: its config.json; recipe: recipe.yaml of the run; results: the rows of results.json.
    """
    method = config["hf_ssl"]["method"]
    title, paper = config["hf_ssl"]["title"], config["hf_ssl"]["paper"]
    small_stem = config["model_type"] != "timm_wrapper"
    environment = Environment(
        loader=PackageLoader("hf_ssl", "hub"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": _number, "settings": _settings, "cell": _cell, "last_part": _last_part}
    return environment.get_template("model_card.md.jinja").render(
        title=title,
        method=method,
        paper=paper,
        backbone=config["backbone"] if small_stem else config["architecture"],
        arguments=config["backbone_kwargs"] if small_stem else config["model_args"],
        stem=config["stem"] if small_stem else None,
        width=config["num_features"],
        images=config["pretrained_cfg"],
        dataset=_last_part(recipe.get("dataset")),
        recipe={name: _last_part(recipe[name]) for name in RECIPE_LINES if recipe.get(name) is not None},
        results=results,
    )


def _last_part(value: Any) -> Any:
    """Keep of an absolute path its last folder: the rest says more about a machine than about a model."""
    return PurePath(value).name if isinstance(value, str) and PurePath(value).is_absolute() else value


def _number(value: float | None, metric: str) -> str:
    """Write a number of a results table: fractions as percent, nothing where a metric has none."""
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if metric in SHARES else f"{value:.4g}"


def _settings(settings: dict[str, Any]) -> str:
    values = {name: f"{value:g}" if isinstance(value, float) else value for name, value in settings.items()}
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _cell(value: Any) -> str:
    """Text that stays inside its cell of a table, or inside its code span."""
    return " ".join(str(value).replace("|", "\\|").replace("`", "'").split())
