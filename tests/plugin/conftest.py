"""A real window with the dock in it, on a small synthetic stack."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image
from napari.utils.notifications import notification_manager
from napari.viewer import Viewer

from demo.mouse import wait_until
from napari_unet.core.synthetic import synthetic_stack
from napari_unet.plugin.contributions import open_dock
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.layers import section_in_view

SIZE = 128
SECTIONS = 4

# Where Mesa draws with the processor: one thread to a window, since two are tested at a time.
os.environ.setdefault("LP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _frozen() -> None:
    """Keep what was imported out of the collections that napari makes when a window closes."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def stack() -> tuple[np.ndarray, np.ndarray]:
    """Grey values and true classes."""
    return synthetic_stack(SECTIONS, SIZE, seed=3)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep learnt models of tests away from the user's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Viewer]) -> Viewer:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 900)
    notification_manager.records.clear()
    return viewer


@pytest.fixture
def dock(viewer: Viewer) -> Iterator[UNetDock]:
    dock = open_dock(viewer)
    yield dock
    if dock.live.busy:
        dock.live.enabled = False  # nothing computed ahead has to be waited for
    dock.trainer.close()
    dock.predictor.stop()
    wait_until(lambda: not busy(dock), 60, "the dock's threads to end")


@pytest.fixture
def image_layer(viewer: Viewer, dock: UNetDock, stack: tuple[np.ndarray, np.ndarray]) -> Image:
    """The stack, open, and its section in view predicted."""
    layer = viewer.add_image(
        stack[0].copy(), name="em", scale=(50, 4, 4), units=("nm",) * 3, axis_labels=tuple("zyx")
    )
    await_view(viewer, dock)
    return layer


def busy(dock: UNetDock) -> bool:
    return (
        dock.predictor.busy
        or dock.live.busy
        or dock.exporter.busy
        or dock.suggester.searching
        or dock.uncertainty.busy
        or dock.trainer.state != "idle"
    )


def await_view(viewer: Viewer, dock: UNetDock) -> None:
    """Wait until the section in view shows the current model's mask."""

    def shown() -> bool:
        layer = dock.session.image_layer
        return (
            layer is not None
            and dock.session.model is not None
            and dock.predictor.is_predicted(section_in_view(viewer, layer))
            and not dock.predictor.busy
        )

    wait_until(shown, 60, "the mask of the section in view")


def messages() -> list[str]:
    """What napari has told the user since the window was opened.

    Without a warning about colours that napari draws by chance, and now and then cannot show.
    """
    told = [record.message for record in notification_manager.records]
    return [each for each in told if "CIE-LAB" not in each]
