"""One picture, however it was stored, as a uint8 tensor.

Every picture ends as RGB, or as grey when one channel is asked for. Rotations noted in EXIF are carried out;
transparency is laid on white, as a viewer shows it; 16-bit values are scaled from their full range, the same for
every image, because stretching each image by itself would change what brightness means. Of several frames the first
is taken.
Whatever cannot be read is a `BadImage` with a reason, never another exception: files come from strangers.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # number of channels -> Pillow's name of them
ORIENTATION = 0x0112  # the EXIF tag of the camera's rotation
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R 601, Pillow's own


class BadImage(Exception):
    """An image that cannot be used; the message is the reason."""


def decode(value: Any, channels: int = 3) -> Tensor:
    """Return an image as uint8 (channels, H, W), channels 1, 3 or 4 (alpha).

    value: encoded bytes, `datasets`' {"bytes", "path"} of an undecoded image, or a uint8 array or nested list (H, W),
    (H, W, C) or (C, H, W).

    Raises:
        BadImage: on anything that is not a readable image.

    """
    try:
        value = np.array(value, np.uint8) if isinstance(value, list) else value
        pixels = _from_array(value, channels) if isinstance(value, np.ndarray) else _from_file(value, channels)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("not in an image format that Pillow reads") from None
    except Exception as error:  # decoders answer broken files with half a dozen exception types
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _from_file(value: Any, channels: int) -> np.ndarray:
    encoded = value if isinstance(value, bytes) else encoded_bytes(value)
    if not encoded:
        raise BadImage("zero bytes")
    with Image.open(io.BytesIO(encoded)) as opened:
        image: Image.Image = opened
        if image.getexif().get(ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        pixels = np.array(_flat(image, MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def encoded_bytes(value: Any) -> bytes:
    """Return the file of an undecoded image of `datasets`: from the row, or from the path that it names.

    Raises:
        BadImage: if there is none.

    """
    if not isinstance(value, dict):
        raise BadImage("the row holds no image")
    if value.get("bytes") is None and value.get("path"):
        path = Path(value["path"])
        if not path.is_file():
            raise BadImage("the file is missing")
        return path.read_bytes()
    return value.get("bytes") or b""


def _flat(image: Image.Image, mode: str) -> Image.Image:
    """Bring an image of any mode to 8-bit `mode`; transparency is laid on white unless the mode is "RGBA"."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    elif image.mode == "F":
        raise BadImage("32-bit float pixels have no known range; save them with 8 or 16 bits")
    elif mode == "RGBA":
        return image.convert(mode)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    elif image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BadImage("integer pixels beyond 16 bits have no known range; save them with 8 or 16 bits")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _from_array(array: np.ndarray, channels: int) -> np.ndarray:
    """uint8 (H, W), (H, W, C) or (C, H, W) to (H, W, channels); an axis of 1 or 3 is the channels', the last first."""
    if array.dtype != np.uint8:
        raise BadImage(f"an array of {array.dtype}; only uint8 arrays are images")
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and array.shape[-1] not in MODES and array.shape[0] in MODES:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[-1] not in MODES or 0 in array.shape:
        raise BadImage(f"an array of shape {array.shape} is no grey or colour image")
    if array.shape[-1] != channels and 4 in (array.shape[-1], channels):
        raise BadImage(f"an array of {array.shape[-1]} channels where {channels} are asked for")
    if array.shape[-1] < channels:
        array = array.repeat(channels, axis=-1)
    elif array.shape[-1] > channels:
        array = np.rint(array @ np.array(GREY_WEIGHTS)).astype(np.uint8)[..., None]
    return np.require(array, requirements=["C", "W"])
