"""A volume far larger than the memory it may have is opened, painted on, saved and opened again."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr
from napari.viewer import Viewer

from demo.mouse import paint_stroke, wait_until
from napari_unet.core.image import SectionIndex, image_from_array
from napari_unet.io.chunked import StoredArray
from napari_unet.io.images import read_image
from napari_unet.io.models import save_model
from napari_unet.io.ome_zarr import FULL, new_group
from napari_unet.io.scratch import sections_in_use
from napari_unet.plugin.contributions import PLUGIN
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.layers import section_in_view, show_place
from tests.examples import tiny_model
from tests.plugin.conftest import await_view, messages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does")

SHAPE = (20_000, 1024, 1024)
PAINTED = (4000, 15_000)
ALLOWED = 3 * 2**30
"""Bytes of memory that may come to those that the window has; the volume is of seven times as many."""


@contextmanager
def limited(kind: int, value: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def memory_in_use() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (data,) = (line.split()[1] for line in lines if line.startswith("VmData"))
    return 1024 * int(data)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A store of 20 GB with noise in some sections; the others are not there, and count as 0."""
    path = tmp_path / "volume.zarr"
    group = new_group(path, image_from_array(np.broadcast_to(np.uint8(0), SHAPE), pixel_size=4.0))
    noise = np.random.default_rng(0).integers(0, 256, SHAPE[1:], np.uint8)
    for section in (0, SHAPE[0] // 2, *PAINTED):
        group[FULL][section] = noise
    return path


@pytest.fixture
def tiny(dock: UNetDock, tmp_path: Path) -> None:
    """A network in use that takes little time for a large section."""
    session, path = dock.session, tmp_path / "tiny.safetensors"
    wait_until(lambda: session.model is not None, 60, "the bundled model")
    bundled = session.model
    save_model(path, tiny_model())
    dock.image_group.load(path)
    wait_until(lambda: session.model is not bundled, 60, "the tiny model")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The sections of which something has been read."""
    found: set[int] = set()
    plain = StoredArray.__getitem__

    def told(array: StoredArray, selection: tuple) -> np.ndarray:
        found.update(np.atleast_1d(np.arange(array.shape[0])[selection[0]]).tolist())
        return plain(array, selection)

    monkeypatch.setattr(StoredArray, "__getitem__", told)
    return found


def test_a_volume_larger_than_memory_is_painted_on_and_opened_again_and_little_of_it_is_read(
    viewer: Viewer, dock: UNetDock, tiny: None, volume: Path, read: set[int]
) -> None:
    session = dock.session
    dock.live.enabled = False  # it would compute features for a while

    def annotations() -> Mapping[SectionIndex, np.ndarray]:
        return session.annotations.sections

    with limited(resource.RLIMIT_DATA, memory_in_use() + ALLOWED):
        with pytest.raises(MemoryError):
            np.zeros(SHAPE, np.uint8)
        (layer,) = viewer.open(str(volume), plugin=PLUGIN)
        await_view(viewer, dock)
        looked_at = {section_in_view(viewer, layer)}
        for section in PAINTED:
            show_place(viewer, layer, (section,), 512, 512, 1.0)
            looked_at.add((section,))
            corrections = dock.keeper.corrections()
            for number in (1, 2):
                dock.correct_group.choose(number)
                row = 512.0 + 40 * number
                paint_stroke(viewer, corrections, [(row, 480.0 + 14 * n) for n in range(5)])
            wait_until(lambda s=section: (s,) in annotations(), 60, "the strokes to be seen")
        painted = [(section,) for section in PAINTED]
        assert sections_in_use(corrections.data) == painted
        assert set(sections_in_use(session.mask.data)) <= looked_at
        strokes = {index: corrections.data[index].copy() for index in painted}
        folder = session.project.folder
        viewer.layers.clear()
        wait_until(lambda: session.image is None, 20, "the image to be gone")
        dock.projects.open(folder)
        wait_until(lambda: session.project is not None, 60, "the project")
        wait_until(lambda: len(annotations()) == 2, 60, "the strokes to be there")
        reopened = session.corrections.data
        assert sections_in_use(reopened) == painted
        for index, section in strokes.items():
            np.testing.assert_array_equal(reopened[index], section)
    # Sections in view, those beside them, and samples for statistics, contrast and fingerprint.
    assert set(PAINTED) <= read
    assert len(read) < 60
    assert messages() == []


def test_the_mask_of_a_large_volume_is_exported_and_only_written_sections_take_room(
    viewer: Viewer, dock: UNetDock, tiny: None, tmp_path: Path
) -> None:
    shape = (400, 1024, 1024)
    layer = viewer.add_image(np.broadcast_to(np.arange(1024, dtype=np.uint8), shape), name="em")
    await_view(viewer, dock)
    mask = dock.session.mask
    mask.data[123, :50] = 2
    with limited(resource.RLIMIT_DATA, memory_in_use() + 2**28):
        with pytest.raises(MemoryError):
            np.array(mask.data)
        path = tmp_path / "mask.zarr"
        assert mask.save(str(path), plugin=PLUGIN) == [str(path)]
    assert layer.data.shape == read_image(path).shape == shape
    stored = zarr.open_group(path, mode="r")[FULL]
    np.testing.assert_array_equal(stored[123], mask.data[123])
    written = {int(each.parts[-3]) for each in (path / FULL / "c").rglob("*/*/*")}
    assert written == {index[0] for index in sections_in_use(mask.data)}
