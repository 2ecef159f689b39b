"""Stacks of other formats than TIFF, opened in the window and exported from it."""

from __future__ import annotations

from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import zarr
from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from demo.mouse import paint_stroke, wait_until
from napari_unet.core.image import image_from_array
from napari_unet.io.images import read_image, write_image
from napari_unet.plugin.data_sets import DataSets
from napari_unet.plugin.dock import UNetDock
from tests.plugin.conftest import await_view, messages

READER = "napari-unet-em"


def test_an_image_of_several_resolutions_is_shown_and_segmented_at_the_full_one(
    viewer: Viewer, dock: UNetDock, stack, tmp_path: Path
) -> None:
    grey = np.tile(stack[0][:2], (1, 5, 5))  # large enough for lower resolutions
    write_image(tmp_path / "em.zarr", image_from_array(grey, "em", 4.0))
    (layer,) = viewer.open(str(tmp_path / "em.zarr"), plugin=READER)
    assert layer.multiscale
    assert tuple(layer.scale[-2:]) == (4.0, 4.0)
    await_view(viewer, dock)
    assert dock.session.image.shape == grey.shape
    assert viewer.layers["mask"].data.shape == grey.shape
    assert messages() == []


def test_of_an_hdf5_file_the_data_set_with_the_grey_values_is_opened(
    viewer: Viewer, dock: UNetDock, stack, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "em.h5", "w") as file:
        file["volume/raw"] = stack[0]
        file["volume/other"] = stack[0][:1]
        file["volume/raw"].attrs["element_size_um"] = (0.05, 0.004, 0.004)
    (layer,) = viewer.open(str(tmp_path / "em.h5"), plugin=READER)
    np.testing.assert_array_equal(np.asarray(layer.data), stack[0])
    await_view(viewer, dock)
    assert dock.session.image.pixel_size == 4.0


def test_a_folder_of_sections_is_a_stack_in_natural_order(
    viewer: Viewer, stack, tmp_path: Path
) -> None:
    folder = tmp_path / "Schnitte 1"
    folder.mkdir()
    for z, name in enumerate(("s2", "s10", "s30", "s100")):
        write_image(folder / f"{name}.tif", image_from_array(stack[0][z], name))
    (layer,) = viewer.open(str(folder), plugin=READER)
    np.testing.assert_array_equal(np.asarray(layer.data), stack[0])


def test_what_cannot_be_opened_is_told_and_adds_no_layer(viewer: Viewer, tmp_path: Path) -> None:
    (tmp_path / "cut.mrc").write_bytes(b"\0" * 100)
    viewer.open(str(tmp_path / "cut.mrc"), plugin=READER)
    assert len(viewer.layers) == 0
    (said,) = messages()
    assert "cut.mrc" in said


def test_masks_are_exported_to_other_formats_with_classes_and_pixel_size(
    viewer: Viewer, dock: UNetDock, image_layer, tmp_path: Path
) -> None:
    written: list[str] = []
    dock.exporter.exported.connect(written.append)
    for number, name in enumerate(("mask.zarr", "mask.mrc", "mask.h5"), start=1):
        dock.export_group.export_to(tmp_path / name)
        wait_until(lambda number=number: len(written) == number, 60, "the export")
    mask = viewer.layers["mask"].data
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "mask.zarr", mode="r")["0"][:], mask)
    with mrcfile.open(tmp_path / "mask.mrc") as file:
        np.testing.assert_array_equal(file.data, mask)
        assert float(file.voxel_size.x) == 40.0
    for name in ("mask.zarr", "mask.mrc", "mask.h5"):
        assert read_image(tmp_path / name).pixel_size == 4.0
    assert "mitochondrion" in (tmp_path / "mask.zarr" / "zarr.json").read_text("utf-8")


def test_napari_saves_layers_in_these_formats(
    viewer: Viewer, dock: UNetDock, image_layer, tmp_path: Path
) -> None:
    for name in ("em.mrc", "em.h5", "em.zarr"):
        assert image_layer.save(str(tmp_path / name), plugin=READER)
        found = read_image(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(found.data), image_layer.data)
        assert found.pixel_size == 4.0


@pytest.fixture
def two_images(stack, tmp_path: Path) -> Path:
    """An HDF5 file with grey values of two sizes, and labels."""
    path = tmp_path / "zwei Bilder.h5"
    with h5py.File(path, "w") as file:
        file["volume/raw"] = stack[0]
        file["volume/left half"] = stack[0][..., :64]
        file["volume/labels/cells"] = stack[1].astype(np.uint32)
        file["scores"] = np.zeros(9)
    return path


@pytest.fixture
def choice(viewer: Viewer, dock: UNetDock, two_images: Path) -> DataSets:
    """Where another image of that file is chosen, once it is open."""
    viewer.open(str(two_images), plugin=READER)
    await_view(viewer, dock)
    wait_until(dock.image_group.data_sets.isVisible, 20, "the data sets to be listed")
    return dock.image_group.data_sets


def test_of_several_data_sets_another_one_is_chosen_in_the_dock(
    viewer: Viewer, dock: UNetDock, choice: DataSets, stack
) -> None:
    assert [choice.itemText(n) for n in range(choice.count())] == [
        "volume/raw  (4 × 128 × 128, uint8)",
        "volume/labels/cells  (4 × 128 × 128, uint32)",
        "volume/left half  (4 × 128 × 64, uint8)",
    ]
    assert choice.currentIndex() == 0

    choice.setFocus()
    QTest.keyClick(choice, Qt.Key_End)
    wait_until(lambda: dock.session.image.shape == (4, 128, 64), 20, "the other data set")
    await_view(viewer, dock)

    np.testing.assert_array_equal(np.asarray(dock.session.image.data), stack[0][..., :64])
    wait_until(lambda: choice.currentData() == "volume/left half", 20, "the choice")
    # Nothing was painted on the one before, so it and its mask have gone.
    assert [layer.name for layer in viewer.layers if isinstance(layer, Image)] == [
        "zwei Bilder left half"
    ]
    assert sum(isinstance(layer, Labels) for layer in viewer.layers) == 2
    assert messages() == []


def test_labels_in_the_file_are_opened_over_the_image(
    viewer: Viewer, dock: UNetDock, choice: DataSets, stack
) -> None:
    QTest.keyClick(choice, Qt.Key_Down)
    wait_until(lambda: "zwei Bilder cells" in viewer.layers, 20, "the labels")

    labels = viewer.layers["zwei Bilder cells"]
    assert isinstance(labels, Labels)
    np.testing.assert_array_equal(np.asarray(labels.data), stack[1])
    assert choice.currentData() == "volume/raw"
    assert dock.session.image.shape == stack[0].shape


def test_a_project_of_a_chosen_data_set_opens_with_it(
    viewer: Viewer, dock: UNetDock, two_images: Path, choice: DataSets, stack
) -> None:
    QTest.keyClick(choice, Qt.Key_End)
    wait_until(lambda: dock.session.image.shape == (4, 128, 64), 20, "the other data set")
    await_view(viewer, dock)
    dock.correct_group.choose(2)
    paint_stroke(viewer, viewer.layers["corrections"], [(20.0 + 9 * n, 30.0) for n in range(3)])
    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")
    folder = dock.session.project.folder
    assert folder == two_images.with_suffix(".unet")
    painted = viewer.layers["corrections"].data.copy()
    assert painted.any()

    # Back to the other one: what was painted on stays.
    QTest.keyClick(choice, Qt.Key_Home)
    wait_until(lambda: dock.session.image.shape == stack[0].shape, 20, "the first data set")
    assert "zwei Bilder left half" in viewer.layers
    await_view(viewer, dock)

    dock.projects.open(folder)
    wait_until(lambda: dock.session.project is not None, 60, "the project")
    assert dock.session.image.shape == (4, 128, 64)
    np.testing.assert_array_equal(viewer.layers["corrections"].data, painted)
    wait_until(lambda: choice.currentData() == "volume/left half", 20, "the choice")
    assert messages() == []


def test_a_file_of_one_image_offers_no_choice(viewer: Viewer, dock: UNetDock, image_layer) -> None:
    assert not dock.image_group.data_sets.isVisible()
    assert dock.image_group.data_sets.count() == 0
