"""A run in numbers: how many steps, and after how many of them something happens."""

from dataclasses import dataclass

from hf_ssl.arguments import TrainingArguments, cadence
from hf_ssl.errors import UsageError


@dataclass
class Plan:
    """Steps in all and per epoch, rows that are mixed with each other, and cadences in steps (0: never)."""

    total_steps: int
    steps_per_epoch: int
    mix_group_size: int | None  # None where nothing is mixed
    log_every: int
    evaluate_every: int
    save_every: int

    def due(self, every: int, step: int) -> bool:
        """Whether what happens `every` so many steps happens after step `step` (from 1); the last step counts."""
        return every > 0 and (step % every == 0 or step == self.total_steps)


def make_plan(
    arguments: TrainingArguments, *, steps_per_epoch: int | None, num_processes: int, mixes: bool = True
) -> Plan:
    """Work out steps and cadences; `steps_per_epoch` is None for a stream of unknown length, whose run is one epoch.

    Raises:
        UsageError: if such a stream is to be counted in epochs, or the mixing groups do not fit the processes.

    """
    share = arguments.batch_size // num_processes
    group = (arguments.mix_group_size or share) if mixes else None
    if group is not None and share % group:
        raise UsageError(
            f"--mix_group_size {group} does not divide the {share} rows of each of {num_processes} processes: choose "
            f"a divisor of {share}."
        )
    if steps_per_epoch is None and arguments.max_steps is None:
        raise UsageError("The length of this stream is unknown: say --max_steps instead of --epochs.")
    per_epoch = steps_per_epoch or arguments.max_steps or 1
    total = arguments.max_steps or max(1, round(arguments.epochs * per_epoch))
    uncounted = steps_per_epoch is None and arguments.save_every.endswith("e")
    evaluate, twentieth = arguments.evaluate_every, max(total // 20, 1)
    return Plan(
        total_steps=total,
        steps_per_epoch=per_epoch,
        mix_group_size=group,
        log_every=cadence(arguments.log_every, per_epoch, "log_every"),
        save_every=twentieth if uncounted else cadence(arguments.save_every, per_epoch, "save_every"),
        evaluate_every=(
            max(twentieth, steps_per_epoch or 0)
            if evaluate is None
            else cadence(evaluate, per_epoch, "evaluate_every")
        ),
    )
