"""The readers of openNCEM (ncempy), without the rest of its package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def ncem_reader(name: str) -> ModuleType:
    """Return the module ``ncempy.io.<name>``.

    The package itself imports matplotlib and all its algorithms first, which takes seconds; its
    readers of DM and SER files need nothing but NumPy.

    Raises
    ------
    ImportError
        If ncempy is not installed.
    """
    alone = f"{__name__}.{name}"
    if alone in sys.modules:
        return sys.modules[alone]
    package = importlib.util.find_spec("ncempy")
    if package is None or not package.submodule_search_locations:
        raise ImportError("DM and SER files need the package ncempy: pip install ncempy")
    file = Path(package.submodule_search_locations[0]) / "io" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(alone, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"ncempy has no reader {name}.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[alone] = module
    return module
