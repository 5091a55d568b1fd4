"""The floors of the house: who may import whom, which library lives where, and how long a file may get.

Read from the source by `ast`, imports inside functions included; nothing is imported.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [  # from the ground up; a module imports from lower floors and, within one package, without circles
    "errors files functional hub.card interruption preprocessing registration seeds small_stem",
    "arguments augmentations checkpoint configuration distributed parser recipe runlog",
    "backbone data heads outputs plan report",
    "evaluation inputs modeling momentum",
    "methods monitor optim repository watch",
    "auto dry_run hub.load hub options preflight trainer",
    "benchmarks defaults evaluate records",
    "run",
    "cli",
    "__main__",
    "__init__",
]
HOMES = {  # library -> the only rooms that import it
    "accelerate": "benchmarks checkpoint dry_run inputs preflight records run runlog trainer watch",
    "datasets": "data evaluation.features hub.load",
    "lightly": "benchmarks",
    "matplotlib": "report",
    "sklearn": "data.embedded",
    "skimage": "data.embedded",
    "timm": "backbone distributed optim repository small_stem",
    "torch.distributed": "benchmarks.two_processes distributed",
    "transformers": "auto configuration evaluate methods modeling outputs parser repository small_stem",
}
PURE = {"functional": {"torch"}, "augmentations": {"torch", "yaml"}, "hub.card": {"jinja2"}, "registration": set()}
HUB_WRITES = {"HfApi", "create_commit", "create_repo", "push_to_hub", "upload_file", "upload_folder"}
LENGTH, SCRIPT_LENGTH = 200, 100


def module(path: Path) -> str:
    """Name inside hf_ssl: "data.order", "methods" for methods/__init__.py, "__init__" for the package's own."""
    parts = path.relative_to(ROOT / "hf_ssl").with_suffix("").parts
    return ".".join(parts if len(parts) == 1 or parts[-1] != "__init__" else parts[:-1])


TREES = {module(path): ast.parse(path.read_text()) for path in sorted((ROOT / "hf_ssl").rglob("*.py"))}


def belongs(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def within(name: str, rooms: str) -> bool:
    return any(belongs(name, room) for room in rooms.split())


def floor(name: str) -> int:
    rooms = {room: level for level, rooms in enumerate(FLOORS) for room in rooms.split() if belongs(name, room)}
    assert rooms, f"{name} has no floor: give it one in FLOORS"
    return rooms[max(rooms, key=len)]


def imports(tree: ast.Module) -> set[str]:
    """Every module that is imported, as written; `from package import name` counts as package.name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(name: str) -> set[str]:
    """The modules of this package that a module imports."""
    found = set()
    for imported in imports(TREES[name]):
        if belongs(imported, "hf_ssl"):
            rest = imported.removeprefix("hf_ssl").lstrip(".")
            while rest and rest not in TREES:
                rest = rest.rpartition(".")[0]
            found.add(rest or "__init__")
    return found - {name}


def calls(tree: ast.Module) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("name", TREES)
def test_imports_go_down(name):
    if name == "__init__":
        return
    for other in ours(name):
        same_room = "." in other + name and other.split(".")[0] == name.split(".")[0]
        assert floor(other) < floor(name) or (same_room and floor(other) <= floor(name)), f"{name} imports {other}"


def test_there_are_no_circles():
    remaining = {name: ours(name) - {"__init__"} for name in TREES if name != "__init__"}
    while ready := [name for name, needs in remaining.items() if not needs & set(remaining)]:
        for name in ready:
            del remaining[name]
    assert not remaining


@pytest.mark.parametrize("name", TREES)
def test_libraries_stay_in_their_rooms(name):
    for imported in imports(TREES[name]):
        for library, rooms in HOMES.items():
            if belongs(imported, library):
                assert within(name, rooms), f"{name} imports {imported}, which belongs to {rooms}"


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_need_little(room):
    names = [name for name in TREES if belongs(name, room)]
    assert names
    allowed = {"hf_ssl", *PURE[room], *sys.stdlib_module_names}
    for name in names:
        assert {imported.split(".")[0] for imported in imports(TREES[name])} <= allowed
        assert all(belongs(other, room) or other == "errors" for other in ours(name))


@pytest.mark.parametrize("name", TREES)
def test_house_rules(name):
    rules = {
        "print": lambda call: isinstance(call.func, ast.Name) and call.func.id == "print" and name != "cli",
        "torch.load without weights_only": lambda call: (
            ast.unparse(call.func) == "torch.load"
            and not any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)
        ),
        "environment variables": lambda call: "os.getenv" in ast.unparse(call.func),
        "writing to a Hub": lambda call: (
            ast.unparse(call.func).split(".")[-1] in HUB_WRITES and not belongs(name, "hub.publish")
        ),
        "waiting for the device in the forward pass": lambda call: (
            ast.unparse(call.func).endswith(".item") and within(name, "functional heads methods modeling")
        ),
    }
    broken = [
        f"line {call.lineno}: {rule}"
        for call in calls(TREES[name])
        for rule, is_broken in rules.items()
        if is_broken(call)
    ]
    assert not broken


SOURCES = [*(ROOT / "hf_ssl").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_finished(path):
    text = path.read_text()
    assert len(text.splitlines()) <= (LENGTH if path.is_relative_to(ROOT / "hf_ssl") else SCRIPT_LENGTH)
    assert not re.findall(r"\b(TODO|FIXME|XXX)\b|/(?:home|root|work)/", text)


def test_the_library_knows_no_scripts_or_tests():
    for name, tree in TREES.items():
        assert not {imported.split(".")[0] for imported in imports(tree)} & {"scripts", "tests", "tiny", "conftest"}, (
            name
        )
