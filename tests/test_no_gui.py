import json
import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

GUI = {"napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "magicgui", "superqt", "pyqtgraph"}


def loaded_by(program):
    """Names of the top-level modules that a program leaves loaded."""
    program += (
        "\nimport json, sys\nprint(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_no_module_below_the_plugin_loads_a_gui():
    loaded = loaded_by(
        """
import importlib, pkgutil
for package in ("core", "io"):
    whole = importlib.import_module(f"napari_unet.{package}")
    names = [m.name for m in pkgutil.walk_packages(whole.__path__, whole.__name__ + ".")]
    assert len(names) > 4, names
    for name in names:
        importlib.import_module(name)
"""
    )

    assert "torch" in loaded
    assert not loaded & GUI


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import napari_unet") & {"torch", "numpy", *GUI}


@pytest.mark.parametrize("command", ["", "predict", "train", "evaluate", "models", "info", "open"])
def test_help_loads_nothing_heavy(command):
    loaded = loaded_by(
        f"""
from napari_unet.cli import main
try:
    main({[*command.split(), "--help"]})
except SystemExit as end:
    assert end.code == 0
"""
    )

    assert not loaded & {"torch", "numpy", "tifffile", "scipy", *GUI}
