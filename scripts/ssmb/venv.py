"""Run inside the project's virtual environment: standard library only."""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def require(*modules: str) -> None:
    """Restart this script under .venv/bin/python when a module is missing here; say what to do when there, too."""
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if not missing:
        return
    python = ROOT / ".venv" / "bin" / "python"
    inside = Path(sys.prefix).resolve() == (ROOT / ".venv").resolve()
    if python.exists() and not inside:
        os.execv(python, [str(python), *sys.argv])
    sys.exit(
        f"{Path(sys.argv[0]).name}: needs the Python modules {', '.join(missing)}; scripts/bootstrap installs them"
    )
