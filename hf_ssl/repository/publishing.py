"""Writing what others load: every file is prepared beside the old one and renamed over it."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from hf_ssl import small_stem
from hf_ssl.backbone import backbone_arguments, width
from hf_ssl.errors import HfSslError
from hf_ssl.evaluation.results import clean_command
from hf_ssl.files import read_json, sync_folder, write_json, write_text
from hf_ssl.hub.card import model_card
from hf_ssl.modeling import SSLModel
from hf_ssl.preprocessing import Preprocess

STAGE = ".publishing"
SMALL_STEM_CLASSES = {
    "AutoConfig": "SmallStemConfig",
    "AutoModel": "SmallStemModel",
    "AutoModelForImageClassification": "SmallStemForImageClassification",
}


def publish_folder(model: SSLModel, folder: Path, *, recipe: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Write what is published of `model` into `folder`, each file in place of the one that is there.

    recipe: the settings of the run; results: rows of results.json. Both must be JSON values.

    Raises:
        HfSslError: if the configuration lacks the mean and deviation that the images are normalised with.

    """
    stage = folder / STAGE
    shutil.rmtree(stage, ignore_errors=True)  # of a save that was killed
    stage.mkdir(parents=True)
    try:
        recipe = json.loads(json.dumps(recipe))
        config = published_config(model, recipe, results)
        _save_whole(model, stage / "pretraining")
        save_file(_plain(model.backbone.state_dict()), stage / "model.safetensors", metadata={"format": "pt"})
        if model.config.stem != "imagenet":
            shutil.copyfile(small_stem.__file__, stage / "small_stem.py")
        write_json(stage / "results.json", results)
        write_text(stage / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
        write_text(stage / "README.md", model_card(config, recipe, results))
        write_json(stage / "config.json", config)
        sync_folder(stage)
        files = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
        for file in sorted(files, key=lambda file: file.name == "config.json"):  # what readers look for, last
            (folder / file).parent.mkdir(exist_ok=True)
            (stage / file).chmod(0o644)  # safetensors makes its files for their owner only
            (stage / file).replace(folder / file)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def published_config(model: SSLModel, recipe: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return config.json: what transformers and timm need to rebuild the backbone and its image processor.

    Raises:
        HfSslError: if the configuration lacks the mean and deviation that the images are normalised with.

    """
    config, network = model.config, model.backbone
    if config.image_mean is None or config.image_std is None:
        raise HfSslError("The model does not say how its images are normalised: set image_mean and image_std.")
    described: dict[str, Any] = dict(getattr(network, "pretrained_cfg", None) or {})
    architecture = described.get("architecture") or config.backbone
    arguments = backbone_arguments(config)
    preprocess = Preprocess.for_training_size(config.image_size, config.image_mean, config.image_std)
    kept = {name: described.get(name) for name in ("first_conv", "classifier", "fixed_input_size")}
    common = {
        "num_features": width(network),
        "pretrained_cfg": {**preprocess.as_pretrained_cfg(), "num_classes": 0, **kept},
        "hf_ssl": {"method": config.model_type, **_title(model), "recipe": _without_paths(recipe), "results": results},
    }
    if config.stem != "imagenet":
        return {
            "model_type": small_stem.SmallStemConfig.model_type,
            "auto_map": {auto: f"small_stem.{name}" for auto, name in SMALL_STEM_CLASSES.items()},
            "backbone": architecture,
            "backbone_kwargs": arguments,
            "stem": config.stem,
            "image_processor_type": "TimmWrapperImageProcessor",
            **common,
        }
    return {
        "model_type": "timm_wrapper",
        "architecture": architecture,
        "num_classes": 0,
        "global_pool": _pooling(network),
        "model_args": arguments,
        **common,
    }


def _without_paths(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe with absolute paths, which say more about a machine than about a run, cut to their last part."""
    return {name: clean_command([value]) if isinstance(value, str) else value for name, value in recipe.items()}


def _title(model: SSLModel) -> dict[str, str | None]:
    """Name and paper of a method, from the first line of its module."""
    line = (sys.modules[type(model).__module__].__doc__ or model.config.model_type).splitlines()[0]
    paper = re.search(r"https://[^\s;)]+", line)
    return {"title": line.split(" (")[0].rstrip("."), "paper": paper[0] if paper else None}


def refresh_card(folder: Path) -> None:
    """Write the card and config.json of a published folder anew after its results.json changed; else do nothing."""
    files = [folder / name for name in ("config.json", "recipe.yaml", "results.json")]
    if not all(file.is_file() for file in files):
        return
    config, results = read_json(files[0]), read_json(files[2])
    recipe = yaml.safe_load(files[1].read_text(encoding="utf-8"))
    config["hf_ssl"]["results"] = results
    write_json(files[0], config)
    write_text(folder / "README.md", model_card(config, recipe, results))


def _save_whole(model: SSLModel, folder: Path) -> None:
    """Save with transformers, but without its progress bar, which would cut a run's own at every save."""
    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if shown:
            enable_progress_bar()


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as a file holds them: on the CPU, contiguous, none sharing memory with another."""
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}


def _pooling(network: nn.Module) -> str:
    """Return timm's name of the pooling; for information only, as timm writes it."""
    for place in (getattr(network, "head", None), network):
        pooling = getattr(place, "global_pool", None)
        pooling = getattr(pooling, "pool_type", pooling)
        if isinstance(pooling, str):
            return pooling
    return "avg"
