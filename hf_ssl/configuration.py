"""What every method's configuration shares: the backbone, the heads, and how embeddings are compared.

A configuration is saved as `config.json` and rebuilds the model; numbers of one method live in that method's file.
Every field carries its help, so that the command line can offer each of them as an option.
"""

import math
from collections.abc import Sequence
from dataclasses import MISSING, field, fields
from typing import Any, NamedTuple

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from hf_ssl.errors import UsageError, did_you_mean, listing

CHOICES = {
    "stem": ("imagenet", "small", "small_nopool"),
    "projector_norm": ("batch", "none"),
    "amcl_objective": ("soft", "hard"),
}


LEARNED_TEMPERATURES = ("temperature_width", "detach_temperature", "amcl_objective", "beta", "amcl_top_k")


def setting(default: Any, help: str) -> Any:
    """Make a dataclass field with its meaning and unit; a subclass that changes only the default inherits them."""
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@strict
class SSLConfig(PreTrainedConfig):
    """Fields that every method understands; `option_fields` lists them with their meaning.

    Raises:
        UsageError: for settings that are out of range or contradict each other.
        StrictDataclassFieldValidationError: for a value of the wrong type.

    """

    model_type = "ssl"
    contrasts = False  # whether negatives are told apart at a temperature, the most similar ones if asked

    backbone: str = setting("resnet18", "name of a timm model, whose representation is trained and published")
    backbone_kwargs: dict[str, Any] = setting({}, "further keyword arguments for timm's constructor, as JSON")
    pretrained_backbone: bool = setting(False, "start from timm's pretrained weights")
    stem: str = setting(
        "imagenet",
        "first layers of a ResNet: imagenet = timm's own; small = first convolution 3x3 with stride 1, for 32 to 96"
        " pixels; small_nopool = also without max-pooling",
    )
    in_chans: int = setting(3, "channels of an image")
    image_size: int = setting(32, "side of the square views that the network sees, in pixels")
    image_mean: list[float | int] | tuple[float | int, ...] | None = setting(
        None, "mean of each channel that normalises images in [0, 1]; absent = those of the views' recipe"
    )
    image_std: list[float | int] | tuple[float | int, ...] | None = setting(
        None, "standard deviation of each channel that normalises images in [0, 1]; absent = those of the recipe"
    )

    projector_dims: list[int] | tuple[int, ...] = setting((512, 128), "output widths of the projector's layers")
    projector_norm: str = setting("batch", "what follows the projector's hidden layers: batch = BatchNorm; none")
    projector_bias: bool = setting(True, "give the last layer of projector and predictor a bias")
    projector_last_norm: bool = setting(False, "end the projector with a BatchNorm without scale and shift")
    num_heads: int = setting(1, "number of projectors side by side; their losses add up")

    temperature_range: list[float | int] | tuple[float | int, ...] | None = setting(
        None, "lowest and highest temperature learned for each pair; absent = one constant temperature"
    )
    temperature_width: int = setting(128, "hidden width of the perceptron that learns temperatures")
    detach_temperature: bool = setting(False, "learn temperatures from embeddings without moving these")
    amcl_objective: str = setting(
        "soft", "objective under learned temperatures: soft = bounded; hard = as published, which is unbounded below"
    )
    beta: float | int = setting(0.01, "weight of the regulariser of learned temperatures")
    amcl_top_k: int = setting(100, "negatives of an anchor that the hard objective keeps, the most similar")

    mix_weight: float | int = setting(
        0.0, "weight of the mixed views' term relative to the method's own; 0 = no mixing"
    )
    mix_warmup_epochs: float | int = setting(0, "epochs over which mix_weight rises linearly from 0")

    def validate_architecture(self) -> None:
        """Refuse what cannot be built, in one sentence that names the value and the remedy."""
        for name in (entry.name for entry in fields(self)):
            refuse_infinite(name, getattr(self, name))
        for name, allowed in CHOICES.items():
            refuse_unknown(name, getattr(self, name), allowed)
        for name in ("num_heads", "in_chans", "image_size", "temperature_width", "amcl_top_k"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("mix_weight", "mix_warmup_epochs", "beta"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must not be negative, but is {getattr(self, name)}.")
        if not self.projector_dims or min(self.projector_dims) < 1:
            dims = list(self.projector_dims)
            raise UsageError(f"projector_dims needs a positive width for each layer, as in 512 1024, not {dims}.")
        if self.temperature_range is not None:
            bounds = list(self.temperature_range)
            if len(bounds) != 2 or not 0 < bounds[0] < bounds[1]:
                raise UsageError(f"temperature_range takes two rising positive numbers, as in 0.05 1, not {bounds}.")
        for name in ("image_mean", "image_std"):
            values = getattr(self, name)
            if values is not None and len(values) != self.in_chans:
                raise UsageError(
                    f"{name} needs one number for each of the {self.in_chans} channels, not {len(values)}."
                )
        if self.image_std is not None and not min(self.image_std) > 0:
            raise UsageError(f"image_std must be positive, but is {list(self.image_std)}.")

    def axes(self) -> list[str]:
        """What the method is run with, in words for the first line of a run."""
        words = [f"{self.num_heads} head{'s' if self.num_heads > 1 else ''}"]
        if self.temperature_range is not None:
            low, high = self.temperature_range
            words.append(f"temperatures {low} to {high} ({self.amcl_objective})")
        return [*words, f"mix weight {self.mix_weight:g}"] if self.mix_weight else words

    def cautions(self) -> list[str]:
        """Sentences on settings that are allowed and perhaps not meant."""
        changed = [entry.name for entry in fields(self) if getattr(self, entry.name) not in (None, entry.default)]
        said: list[tuple[Sequence[str], str]] = []
        if self.temperature_range is None:
            said.append((LEARNED_TEMPERATURES, "without --temperature_range none is learned"))
        else:
            said.append((["temperature"], "with --temperature_range one is learned for each pair"))
            if not self.contrasts:
                said.append((["amcl_top_k"], f"{self.model_type} does not choose among negatives"))
            elif self.amcl_objective != "hard":
                said.append((["amcl_top_k"], "only --amcl_objective hard chooses among negatives"))
        if not self.mix_weight:
            said.append((["mix_warmup_epochs", "mix_target"], "without --mix_weight nothing is mixed"))
        unread = [([name for name in names if name in changed], reason) for names, reason in said]
        sentences = [f"Nothing reads {listing(names)}: {reason}." for names, reason in unread if names]
        if self.temperature_range is not None and self.amcl_objective == "hard":
            sentences.append(
                "The published AMCL objective is unbounded below with its published constants: watch the share of "
                "temperatures at a bound, or take --amcl_objective soft."
            )
        return sentences


def refuse_unknown(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise UsageError unless `value` of the field `name` is one of `allowed`."""
    if value not in allowed:
        raise UsageError(f"{name} is one of {listing(allowed)}, not '{value}'.{did_you_mean(value, allowed)}")


def refuse_infinite(name: str, value: Any) -> None:
    """Raise UsageError if the field `name` is, or lists, a number that is infinite or NaN: its loss would be too."""
    numbers = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise UsageError(f"{name} must be finite, but is {value}.")


class OptionField(NamedTuple):
    """One field of a configuration as the command line needs it."""

    annotation: Any
    default: Any
    help: str


def option_fields(config_class: type[SSLConfig]) -> dict[str, OptionField]:
    """List the fields that this package added to transformers' own: name -> annotation, default, help with default."""
    inherited = {entry.name for entry in fields(PreTrainedConfig)}
    options = {}
    for entry in fields(config_class):
        if entry.name in inherited:
            continue
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        options[entry.name] = OptionField(
            entry.type, default, f"{_help(config_class, entry.name)} (default: {default})"
        )
    return options


def _help(config_class: type[SSLConfig], name: str) -> str:
    for ancestor in config_class.__mro__:
        own = getattr(ancestor, "__dataclass_fields__", {}).get(name)
        if own is not None and "help" in own.metadata:
            return str(own.metadata["help"])
    raise TypeError(f"{config_class.__name__}.{name} has no help")
