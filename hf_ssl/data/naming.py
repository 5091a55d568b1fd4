"""What a row is called in messages, features and reports: its index and, where there is one, its file's name."""

from pathlib import Path
from typing import Any


def file_name(value: Any, root: Path | None) -> str | None:
    """Return the name of the file that an undecoded image came from: within `root`, and never an absolute path."""
    path = Path(value.get("path") or "") if isinstance(value, dict) else Path()
    if root and path.is_relative_to(root.resolve()):
        path = path.relative_to(root.resolve())
    return (path.name if path.is_absolute() else path.as_posix()) if path.name else None


def describe_row(row: int | str, name: str | None) -> str:
    """Return "17 (cats/003.png)", or "17" where there is no file name."""
    return f"{row} ({name})" if name else str(row)
