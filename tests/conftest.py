import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real microscopy data; tests that need it are skipped where it is absent."""
    folder = REPOSITORY / os.environ.get("NAPARI_UNET_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"there is no real data at {folder}; set NAPARI_UNET_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny networks are quickest in one thread, above all while other programs compute."""
    import torch

    torch.set_num_threads(1)
