"""Two views of every image, batched: recipes (numbers), parameters (draws), and the operations that run them."""

from hf_ssl.augmentations.geometry import cut_crops
from hf_ssl.augmentations.lookup import get_recipe
from hf_ssl.augmentations.parameters import ViewParameters, crop_boxes, draw_crops, draw_parameters
from hf_ssl.augmentations.recipes import RECIPES, Recipe, ViewRecipe
from hf_ssl.augmentations.views import apply_views, make_views, move

__all__ = [
    "RECIPES",
    "Recipe",
    "ViewParameters",
    "ViewRecipe",
    "apply_views",
    "crop_boxes",
    "cut_crops",
    "draw_crops",
    "draw_parameters",
    "get_recipe",
    "make_views",
    "move",
]
