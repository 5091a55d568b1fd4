"""What a run can be told, beside the method's own settings: data, training and evaluation as plain dataclasses.

Defaults suit one device and small images. `None` means "worked out from the data and the method"; preflight says
what came out. Every field is a command-line option and a recipe key of the same name.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from hf_ssl.errors import UsageError, did_you_mean


def option(default: Any, help: str) -> Any:
    """Return a dataclass field whose help line the command line prints."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


def one_of(arguments: Any, name: str, accepted: tuple[str, ...]) -> None:
    """Raise UsageError unless a field has one of the accepted values."""
    value = getattr(arguments, name)
    if value not in accepted:
        raise UsageError(f"--{name} takes {', '.join(accepted)}, not '{value}'.{did_you_mean(value, accepted)}")


def at_least(arguments: Any, name: str, least: float) -> None:
    """Raise UsageError if a field is a number below `least`, or none that could be compared."""
    value = getattr(arguments, name)
    if value is not None and not least <= value < float("inf"):
        raise UsageError(f"--{name} {value}: at least {least}.")


@dataclass
class DataArguments:
    """Where the images come from."""

    dataset: str | None = option(None, "Hub id, local folder, or an embedded name (photos, digits) to train on")
    dataset_config: str | None = option(None, "configuration of the data set, where it has several")
    split: str = option("train", "split to train on; `datasets` expressions such as train[:10%%] work")
    image_column: str | None = option(None, "column of the images; found by itself when there is only one")
    streaming: bool = option(False, "read the data set as a stream, without downloading it whole")
    probe_dataset: str | None = option(None, "labelled data set for the kNN probe; default: the training data's own")
    probe_config: str | None = option(None, "configuration of the probe data set")
    num_workers: int | None = option(None, "decoding processes per training process; default: as the images need")
    data_on_device: str = option("auto", "keep small images decoded on the training device: auto, true or false")
    max_bad_fraction: float = option(0.01, "share of unreadable images above which the run stops")

    def __post_init__(self) -> None:
        """Refuse values that no run could use."""
        one_of(self, "data_on_device", ("auto", "true", "false"))
        at_least(self, "num_workers", 0)
        at_least(self, "max_bad_fraction", 0)
        if self.probe_config is not None and self.probe_dataset is None:
            raise UsageError(f"--probe_config {self.probe_config} belongs to --probe_dataset, which is not given.")


@dataclass
class TrainingArguments:
    """How long, how fast, how precisely, and what is kept."""

    output_dir: str | None = option(None, "folder of the run; default runs/METHOD-DATASET")
    augmentation: str | None = option(None, "views: recipe name, letters of abcde, or YAML; default by image size")
    epochs: float = option(200, "passes over the data; --max_steps wins over it")
    max_steps: int | None = option(None, "optimizer steps in all")
    batch_size: int = option(256, "images per step over all processes together")
    optimizer: str = option("adamw", "lars, adam, adamw or sgd")
    learning_rate: float = option(1e-3, "peak learning rate per 256 images")
    bias_learning_rate: float | None = option(None, "the same for 1-D parameters (LARS); default: as learning_rate")
    weight_decay: float | None = option(None, "weight decay; default the method's own, 1e-6 for Barlow Twins")
    max_grad_norm: float | None = option(None, "length that longer gradients are cut to; default: none is cut")
    sgd_momentum: float = option(0.9, "momentum of lars and sgd")
    warmup_epochs: float | None = option(None, "epochs of linear warm-up; default the shorter of 10 and a tenth")
    final_learning_rate_fraction: float = option(1e-3, "where the cosine ends, as a fraction of the peak")
    schedule_offset_epochs: int = option(0, "epoch at which the schedule starts: 0, or 1 as Mixed Barlow Twins")
    schedule_per: Literal["step", "epoch"] = option("step", "move the learning rate once per step or per epoch")
    mix_group_size: int | None = option(None, "rows among which images are mixed; default the rows of one process")
    mixed_precision: str = option("no", "no, bf16 or fp16; the objective is always float32")
    channels_last: bool = option(False, "keep feature maps in channels-last order (faster convolutions)")
    compile: bool = option(False, "compile the backbone with torch.compile")
    seed: int = option(0, "fixes weights, order, views and mixing")
    log_every: str = option("10", "steps between log lines; 0 never, a suffix e counts epochs")
    evaluate_every: str | None = option(None, "steps between probes; default a twentieth of the run, at least 1e")
    save_every: str = option("1e", "steps between checkpoints; 0 only at the end, a suffix e counts epochs")
    keep_last: int = option(2, "checkpoints kept, at least 2")
    keep_best: str = option("knn/top1", "metric whose best model is kept in best/")
    resume: str = option("auto", "auto, never, or the path of a checkpoint")
    overwrite: bool = option(False, "with --resume never: discard the run that is in the folder")
    init_from: str | None = option(None, "run, published folder or Hub id whose weights a fresh schedule starts from")
    dry_run: bool = option(False, "check everything, do one step, print the plan and draw the views; keep nothing")
    report_to: list[str] | None = option(None, "trackers: tensorboard, wandb, trackio or none")

    def __post_init__(self) -> None:
        """Refuse values that no run could use.

        Raises:
            UsageError: naming the option, the value and what is accepted.

        """
        one_of(self, "optimizer", ("lars", "adam", "adamw", "sgd"))
        one_of(self, "mixed_precision", ("no", "bf16", "fp16"))
        one_of(self, "schedule_per", ("step", "epoch"))
        if self.keep_last < 2:
            raise UsageError(f"--keep_last {self.keep_last}: at least 2, so that a torn one never is the only one.")
        for name in ("max_steps", "mix_group_size"):
            at_least(self, name, 1)
        for name in ("learning_rate", "bias_learning_rate", "weight_decay", "warmup_epochs", "seed"):
            at_least(self, name, 0)
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise UsageError(f"--max_grad_norm {self.max_grad_norm}: a number above 0; leave it out to cut nothing.")
        if not 0 < self.epochs < float("inf"):
            raise UsageError(f"--epochs {self.epochs}: a number above 0.")
        for name in ("log_every", "save_every", "evaluate_every"):
            cadence(getattr(self, name) or "0", steps_per_epoch=1, name=name)


@dataclass
class EvaluationArguments:
    """What `evaluate` measures, and on which images."""

    dataset: str | None = option(None, "labelled data set; default the run's own probe data")
    dataset_config: str | None = option(None, "configuration of the data set")
    train_split: str = option("train", "split whose labels are learnt from")
    test_split: str | None = option(None, "split that is scored; default test, else validation, else a seeded fifth")
    image_column: str | None = option(None, "column of the images")
    label_column: str | None = option(None, "column of the labels")
    protocols: list[str] = option(["knn", "linear"], "protocols to run: knn, linear")
    limit: int | None = option(None, "use at most this many images of each split")
    batch_size: int = option(256, "images per forward pass")
    seed: int = option(0, "fixes subsets, held-out parts and the bootstrap")
    output_dir: str | None = option(None, "folder of results.json; default the model's own")
    baselines: bool = option(False, "also print kNN of raw pixels and, for a run, of the untrained network")

    def __post_init__(self) -> None:
        """Refuse counts that mean nothing."""
        for name in ("batch_size", "limit"):
            at_least(self, name, 1)
        at_least(self, "seed", 0)
        self.protocols = list(dict.fromkeys(self.protocols))


def cadence(text: str, steps_per_epoch: int, name: str) -> int:
    """Steps between two events: "50" is 50 steps, "1e" one epoch, "0" never (0).

    Raises:
        UsageError: if `text` is neither.

    """
    number, per_epoch = (text[:-1], True) if text.endswith("e") else (text, False)
    try:
        count = float(number) if per_epoch else int(number)
    except ValueError:
        raise UsageError(f"--{name} takes a number of steps, or of epochs as in 1e, not '{text}'.") from None
    if not 0 <= count < float("inf"):
        raise UsageError(f"--{name} {text}: 0 turns it off, and other numbers are above it.")
    return max(1, round(count * steps_per_epoch)) if per_epoch and count else int(count)
