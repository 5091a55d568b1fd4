"""What is said, and what is refused, before the first step: mistakes that would cost hours, found in seconds."""

import logging
import shutil
from pathlib import Path

import psutil
import torch
from accelerate import Accelerator
from torch import Tensor

from hf_ssl.arguments import TrainingArguments
from hf_ssl.errors import HfSslError, UsageError
from hf_ssl.modeling import SSLModel
from hf_ssl.plan import Plan
from hf_ssl.small_stem import has_large_stem

logger = logging.getLogger(__name__)

FEW_ROWS = 16  # below this BatchNorm's statistics are mostly noise
MEMORY_SHARE = 0.9  # of what is free, for what the estimate leaves out
ADAM_STATES = 2  # extra copies of the weights that the optimizer keeps


def checkpoint_bytes(model: SSLModel) -> int:
    """About how large one checkpoint is: weights, buffers and the optimizer's states."""
    tensors = [*model.parameters(), *model.buffers()]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return sum(t.numel() * t.element_size() for t in (*tensors, *(trained * ADAM_STATES)))


def check_disk(model: SSLModel, folder: Path, keep_last: int) -> None:
    """Refuse to start where the checkpoints cannot fit.

    Raises:
        HfSslError: naming the bytes needed and free.

    """
    needed = checkpoint_bytes(model) * (keep_last + 1) + 4 * checkpoint_bytes(model)  # and the published folders
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise HfSslError(
            f"{folder} needs about {gigabytes(needed)} for its checkpoints and {parent} has {gigabytes(free)} free: "
            "make room or choose another --output_dir."
        )


def gigabytes(count: float) -> str:
    """A number of bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def activation_bytes(model: SSLModel, image: Tensor) -> int:
    """Bytes that one image keeps for the backward pass of one view, measured on two rows of `image` (C, H, W)."""
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    training = model.training
    model.eval()
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = model.embed(image.expand(2, *image.shape).clone())
    except (AssertionError, RuntimeError, ValueError) as error:
        size, reason = model.config.image_size, " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{model.config.backbone} cannot take images of {size} px ({reason}): choose another --image_size."
        ) from error
    model.train(training)
    del output
    return sum(kept.values()) // 2


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on the training device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def check(model: SSLModel, arguments: TrainingArguments, plan: Plan, accelerator: Accelerator, folder: Path) -> None:
    """Say what should be known of this run before it starts.

    Raises:
        HfSslError: if its checkpoints cannot fit the disk.

    """
    for sentence in notices(model, arguments, plan, accelerator.num_processes, accelerator.device):
        logger.info(sentence)
    config = model.config
    image = torch.zeros(config.in_chans, config.image_size, config.image_size)
    for doubt in filter(None, (*config.cautions(), check_memory(model, arguments, image, accelerator))):
        logger.warning(doubt)
    check_disk(model, folder, arguments.keep_last)


def notices(
    model: SSLModel, arguments: TrainingArguments, plan: Plan, num_processes: int, device: torch.device
) -> list[str]:
    """What a user should know of this run before it starts, one sentence each; the first describes it."""
    config = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    peak = arguments.learning_rate * arguments.batch_size / 256
    said = [
        f"{config.model_type} ({', '.join(config.axes())}) with {config.backbone} ({parameters / 1e6:.1f} M "
        f"parameters) at {config.image_size} px on {num_processes} x {device.type}: {plan.total_steps} steps of "
        f"{arguments.batch_size} images, {plan.steps_per_epoch} an epoch; peak learning rate {peak:.4g}; "
        f"a checkpoint is about {gigabytes(checkpoint_bytes(model))}."
    ]
    has_batch_norm = any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if has_batch_norm and arguments.batch_size < FEW_ROWS:
        said.append(f"BatchNorm sees {arguments.batch_size} images a step: its statistics will be noisy.")
    reduction = (getattr(model.backbone, "feature_info", None) or [{}])[-1].get("reduction")
    if reduction and config.image_size < 2 * reduction:
        smaller = " --stem small or small_nopool keeps more detail." if has_large_stem(model.backbone) else ""
        said.append(
            f"The backbone divides {config.image_size} px by {reduction}: its last map is "
            f"{max(config.image_size // reduction, 1)} px wide.{smaller}"
        )
    weight = getattr(config, "redundancy_weight", None)
    if weight is not None:
        width = config.projector_dims[-1]
        share_at_chance = weight * (width - 1) / arguments.batch_size  # lambda D (D-1) / B against D on the diagonal
        if not 0.002 <= share_at_chance <= 0.3:
            advice = "lower" if share_at_chance > 0.3 else "raise"
            said.append(
                f"At the start the redundancy term is {share_at_chance:.2g} of the invariance term (the published "
                f"settings have 0.004 to 0.04): {advice} --redundancy_weight, or change --batch_size or the width."
            )
    if plan.total_steps < plan.steps_per_epoch:
        said.append(f"{plan.total_steps} steps are less than one epoch ({plan.steps_per_epoch} steps).")
    return said


def check_memory(model: SSLModel, arguments: TrainingArguments, image: Tensor, accelerator: Accelerator) -> str | None:
    """A sentence if a step is likely not to fit the training device, else None."""
    passes = 3 if model.config.mix_weight else 2
    rows = arguments.batch_size // accelerator.num_processes
    needed = activation_bytes(model, image) * rows * passes + checkpoint_bytes(model) * 4 // 3
    if accelerator.device.type == "cpu":
        needed *= accelerator.num_processes
    free = free_memory(accelerator.device)
    if needed < MEMORY_SHARE * free:
        return None
    return (
        f"A step of {rows} images per process needs about {gigabytes(needed)} and {gigabytes(free)} are free: "
        "lower --batch_size, use --mixed_precision bf16, or more processes."
    )
