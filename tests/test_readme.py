"""The README's first program runs as written, and its tables are what the committed results say."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_program_runs_as_written(tmp_path):
    program = re.search(r"```bash\n(.*?)```", README, flags=re.DOTALL)[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", program], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "parameters" in done.stdout and "knn" in done.stdout


def test_the_tables_are_current():
    assert runpy.run_path(str(ROOT / "scripts" / "make_tables.py"))["filled"](README) == README
