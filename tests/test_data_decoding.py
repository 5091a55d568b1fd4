"""Every way of storing a picture ends as the same uint8 tensor, and every broken file as a reason."""

import io
import random

import numpy as np
import pytest
import torch
from picture_files import encode, picture
from PIL import Image

from hf_ssl.data import BadImage, decode

PIXELS = picture(1, (5, 7))
GREY = PIXELS[..., 0]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_array(tensor):
    assert tensor.dtype == torch.uint8 and tensor.is_contiguous()
    return tensor.permute(1, 2, 0).numpy()


def test_rgb_is_taken_as_it_is():
    np.testing.assert_array_equal(as_array(decode(encode(PIXELS))), PIXELS)


def test_grey_is_repeated_and_kept_when_one_channel_is_asked_for():
    np.testing.assert_array_equal(as_array(decode(encode(GREY))), np.stack([GREY] * 3, -1))
    np.testing.assert_array_equal(as_array(decode(encode(GREY), channels=1)), GREY[..., None])


def test_one_channel_of_a_colour_image_is_its_brightness():
    expected = PIXELS @ np.array((0.299, 0.587, 0.114))
    assert abs(as_array(decode(encode(PIXELS), channels=1))[..., 0] - expected).max() <= 1


def test_palette():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    assert as_array(decode(saved(image, "PNG"))).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_transparent_palette_colour_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    for transparency in (0, bytes([0, 255])):
        decoded = as_array(decode(saved(image, "PNG", transparency=transparency)))
        assert decoded.tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_alpha_is_laid_on_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[..., 3] = (0, 255, 128)
    decoded = as_array(decode(encode(rgba)))
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert decoded[0, 1].tolist() == [200, 0, 0]
    assert abs(decoded[0, 2].astype(int) - (227, 127, 127)).max() <= 1


def test_grey_with_alpha():
    image = np.array([[[50, 0], [50, 255]]], np.uint8)
    assert as_array(decode(saved(Image.fromarray(image, "LA"), "PNG"))).tolist() == [[[255] * 3, [50] * 3]]


def test_one_bit():
    image = Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1")
    assert as_array(decode(saved(image, "PNG"))).tolist() == [[[0] * 3, [255] * 3, [0] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_from_the_full_range(kind):
    values = np.array([[0, 257, 32768, 65535, 400]], np.uint16)
    decoded = as_array(decode(saved(Image.fromarray(values), kind), channels=1))
    assert decoded[0, :, 0].tolist() == [0, 1, 128, 255, 2]


def test_cmyk():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    for kind in ("TIFF", "JPEG"):
        red = as_array(decode(saved(cmyk, kind)))[4, 4].astype(int)
        assert abs(red - (255, 0, 0)).max() <= 3, kind


TURNS = {  # what the camera noted -> what a viewer does with the stored pixels
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(PIXELS), "PNG", exif=exif)
    np.testing.assert_array_equal(as_array(decode(data)), TURNS[orientation](PIXELS))


def test_the_first_of_several_frames():
    frames = [Image.fromarray(picture(number)) for number in (1, 2)]
    data = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(as_array(decode(data)), picture(1))


def test_a_row_of_datasets_is_bytes_or_the_path_of_a_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(PIXELS))
    for value in ({"bytes": encode(PIXELS), "path": "gone.png"}, {"bytes": None, "path": str(path)}):
        np.testing.assert_array_equal(as_array(decode(value)), PIXELS)


@pytest.mark.parametrize("array", [PIXELS, PIXELS.transpose(2, 0, 1)])
def test_arrays_with_channels_last_or_first(array):
    np.testing.assert_array_equal(as_array(decode(array)), PIXELS)


def test_grey_arrays():
    for array in (GREY, GREY[..., None], GREY[None]):
        np.testing.assert_array_equal(as_array(decode(array)), np.stack([GREY] * 3, -1))
    assert decode(PIXELS, channels=1).shape == (1, 5, 7)


JPEG = encode(picture(2, (40, 40)), "JPEG")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "zero bytes"),
        ({"bytes": b"", "path": "a.png"}, "zero bytes"),
        ({"bytes": None, "path": None}, "zero bytes"),
        ({"bytes": None, "path": "/no/such/file.png"}, "missing"),
        (None, "no image"),
        (b"these are no pixels", "format"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (encode(picture(1, (40, 40)))[:400], "[a-z]"),
        (saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "float"),
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((5, 5, 7), np.uint8), "shape"),
        (np.zeros((5, 5, 4), np.uint8), "4 channels where 3"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
    ],
)
def test_what_cannot_be_read_says_why(value, reason):
    with pytest.raises(BadImage, match=reason) as caught:
        decode(value)
    assert "0x" not in str(caught.value)


def test_four_channels_keep_the_transparency():
    half = Image.fromarray(np.full((2, 3, 4), (10, 20, 30, 128), np.uint8), "RGBA")
    assert decode(saved(half, "PNG"), channels=4)[:, 0, 0].tolist() == [10, 20, 30, 128]
    assert decode(saved(half.convert("RGB"), "PNG"), channels=4)[3].unique().tolist() == [255]
    assert decode(np.asarray(half), channels=4).shape == (4, 2, 3)


def test_an_image_of_too_many_pixels_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(BadImage, match="decompression bomb"):
        decode(encode(PIXELS))


@pytest.mark.filterwarnings("ignore")  # Pillow warns about some of the damage
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_damaged_files_give_pixels_or_a_reason(kind):
    chance = random.Random(0)
    whole = encode(picture(3, (24, 24)), kind)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            outcomes.add(decode(bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))])).dtype)
        except BadImage:
            outcomes.add("bad")
    assert outcomes <= {torch.uint8, "bad"} and "bad" in outcomes
