"""Stacks of other formats than TIFF, opened in the window and exported from it."""

from __future__ import annotations

from pathlib import Path

import h5py
import mrcfile
import numpy as np
import zarr
from napari.viewer import Viewer

from demo.mouse import wait_until
from napari_unet.core.image import image_from_array
from napari_unet.io.images import read_image, write_image
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
