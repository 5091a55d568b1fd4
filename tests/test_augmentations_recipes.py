"""A recipe is what the papers' code has, whether it is asked for by name, by letters or in a file."""

import dataclasses

import pytest
import yaml

from hf_ssl.augmentations import RECIPES, Recipe, ViewRecipe, get_recipe
from hf_ssl.errors import UsageError

JITTER = {"jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "hue": 0.1}


def values(view: ViewRecipe, **expected):
    return {name: getattr(view, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("cifar", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ("tiny_imagenet", (0.480, 0.448, 0.398), (0.277, 0.269, 0.282)),
        ("stl10", (0.43, 0.42, 0.39), (0.27, 0.26, 0.27)),
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_every_recipe_has_its_published_statistics_and_strengths(name, mean, std):
    recipe = get_recipe(name)
    assert (recipe.name, recipe.mean, recipe.std) == (name, mean, std)
    for view in recipe.views:
        assert values(view, **JITTER, flip=0.5, crop_ratio=(3 / 4, 4 / 3), blur_sigma=(0.1, 2.0))


def test_cifar_is_symmetric_without_blur():
    recipe = get_recipe("cifar")
    assert recipe.view_a == recipe.view_b
    assert values(recipe.view_a, crop_scale=(0.08, 1.0), saturation=0.4, grey=0.2, blur=0.0, solarize=0.0)
    assert (recipe.interpolation, recipe.crop_last) == ("bilinear", False)


@pytest.mark.parametrize("name", ["tiny_imagenet", "stl10"])
def test_small_photographs_are_cropped_last_and_rarely_grey(name):
    recipe = get_recipe(name)
    assert recipe.view_a == recipe.view_b
    assert values(recipe.view_a, crop_scale=(0.2, 1.0), saturation=0.4, grey=0.1, blur=0.0, solarize=0.0)
    assert (recipe.interpolation, recipe.crop_last) == ("bicubic", True)


def test_imagenet_is_asymmetric():
    recipe = get_recipe("imagenet")
    shared = {"crop_scale": (0.08, 1.0), "saturation": 0.2, "grey": 0.2}
    assert values(recipe.view_a, **shared, blur=1.0, solarize=0.0)
    assert values(recipe.view_b, **shared, blur=0.1, solarize=0.2)
    assert (recipe.interpolation, recipe.crop_last, recipe.solarize_threshold) == ("bicubic", False, 128 / 255)


@pytest.mark.parametrize(("size", "kernel"), [(8, 3), (32, 3), (64, 7), (96, 9), (224, 23)])
def test_the_blur_window_is_a_tenth_of_the_view(size, kernel):
    assert get_recipe("imagenet").kernel_size(size) == kernel


def test_all_letters_are_amcls_published_families():
    recipe = get_recipe("abcde")
    assert recipe.view_a == recipe.view_b
    assert values(recipe.view_a, **JITTER, crop_scale=(0.08, 1.0), saturation=0.4, grey=0.2, blur=0.5, flip=0.5)
    assert recipe.kernel_size(96) == 3


@pytest.mark.parametrize(
    ("letter", "off"),
    [
        ("a", {"crop_scale": (1.0, 1.0)}),
        ("b", {"blur": 0.0}),
        ("c", {"grey": 0.0}),
        ("d", {"jitter": 0.0}),
        ("e", {"flip": 0.0}),
    ],
)
def test_a_letter_that_is_absent_switches_its_family_off_and_nothing_else(letter, off):
    everything = get_recipe("abcde").view_a
    assert get_recipe("abcde".replace(letter, "")).view_a == dataclasses.replace(everything, **off)


def test_letters_out_of_order_name_the_right_order():
    with pytest.raises(UsageError, match="did you mean 'abd'"):
        get_recipe("dba")


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'tiny_imagenet'"):
        get_recipe("tinyimagenet")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_being_written_to_a_file(name, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(dataclasses.asdict(RECIPES[name])))
    assert get_recipe(path) == RECIPES[name]


def test_a_files_view_fields_hold_for_both_views_unless_one_says_otherwise(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("grey: 0.3\ninterpolation: bicubic\nview_b: {grey: 0, crop_scale: [0.5, 1]}\n")
    recipe = get_recipe(str(path))
    view_b = ViewRecipe(grey=0, crop_scale=(0.5, 1))
    assert recipe == Recipe("mine", ViewRecipe(grey=0.3), view_b, interpolation="bicubic")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gray: 0.3", "no field 'gray'.*Did you mean 'grey'"),
        ("view_a: {blurr: 1}", "no field 'blurr'.*Did you mean 'blur'"),
        ("flip: 1.5", "'flip' is 1.5 but must be"),
        ("flip: often", "wrong kind"),
        ("crop_scale: [1, 0.2]", "'crop_scale'.*smaller one first"),
        ("crop_scale: 0.2", "wrong kind"),
        ("interpolation: nearest", "'interpolation' is 'nearest' but must be one of 'bilinear', 'bicubic'"),
        ("blur_kernel: 4", "'blur_kernel' is 4"),
        ("std: [0.2, 0.2]", "'std'.*as long as mean"),
        ("- flip", "must hold fields"),
        ("view_a: 3", "'view_a'.*must hold fields"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_mistake_in_a_file_is_told_in_one_sentence(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        get_recipe(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"missing\.yaml' cannot be read"):
        get_recipe(tmp_path / "missing.yaml")
