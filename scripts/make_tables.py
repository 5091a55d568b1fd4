"""Write the tables of README.md from the registry, the recipes and the committed results; `--check` only compares."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from hf_ssl.files import read_json, write_text
from hf_ssl.methods import METHODS
from hf_ssl.recipe import read_recipe, recipe_names
from hf_ssl.report.tables import benchmark, comparison, results, table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "model_cards" / "results"


def methods() -> str:
    """The registry, each with the first line of its module."""
    rows = []
    for name, model in METHODS.items():
        idea = (sys.modules[model.__module__].__doc__ or "").splitlines()[0]
        paper = re.search(r"\((.*?), (https://\S+?)\)", idea)
        title = idea.split(" (")[0]
        rows.append([f"`{name}`", f"[{title}]({paper[2]})" if paper else title, paper[1] if paper else ""])
    return table(["`--method`", "method", "paper"], rows)


def recipes() -> str:
    """The shipped recipes by name, with what their comments say was published."""
    rows = []
    for name in recipe_names():
        text = (ROOT / "hf_ssl" / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        published = next((line[2:] for line in text.splitlines() if line.startswith("# Published: ")), "")
        recipe = read_recipe(name)
        length = f"{recipe['max_steps']} steps" if "max_steps" in recipe else f"{recipe['epochs']} epochs"
        number = published.removeprefix("Published: ").split(" (")[0]
        rows.append([f"`{name}`", length, "none" if not number or number.startswith("no ") else number])
    return table(["`--recipe`", "length", "published"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "methods": methods,
    "recipes": recipes,
    "results": lambda: results(read_json(RESULTS / "small.json")),
    "comparison": lambda: comparison(read_json(RESULTS / "comparison.json")),
    "benchmark": lambda: benchmark(read_json(RESULTS / "benchmark.json")),
}


def filled(text: str) -> str:
    """The README with every marked block written anew."""
    for name, make in TABLES.items():
        block = f"<!-- {name} -->\n{make()}\n<!-- /{name} -->"
        before, rest = text.split(f"<!-- {name} -->")
        text = before + block + rest.split(f"<!-- /{name} -->")[1]
    return text


def main() -> int:
    """Write the tables, or say whether they are current."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        return int(filled(text) != text)
    write_text(path, filled(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
