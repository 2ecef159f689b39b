"""What is exported is what is shown, with its pixel size, in files that others read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from napari.viewer import Viewer

from demo.mouse import wait_until
from napari_unet.core.annotations import SegmentationClass
from napari_unet.core.config import PredictionConfig
from napari_unet.core.prediction import finish, gather, predict
from napari_unet.io.class_names import read_classes
from napari_unet.io.models import load_model
from napari_unet.plugin.contributions import PLUGIN
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.exporting import CLASS_MASK, MODEL, ONE_CLASS, PROBABILITIES
from tests.plugin.conftest import SECTIONS, SIZE, await_view, messages


def export(dock: UNetDock, kind: str, path: Path, number: int | None = None) -> Path:
    """Export with the form of the dock, and wait for the file."""
    done: list[str] = []
    dock.exporter.exported.connect(done.append)
    dock.export_group.kind.value = kind
    if number is not None:
        dock.export_group.class_choice.value = number
    dock.export_group.export_to(path)
    wait_until(lambda: bool(done), 60, "the exported file")
    return path


def await_stack(dock: UNetDock) -> None:
    """Wait until all sections are predicted and the job has ended, so that a new one may begin."""
    predictor = dock.predictor
    wait_until(lambda: not (predictor.missing_sections() or predictor.busy), 60, "the stack")


def test_exported_class_mask_equals_the_layer_and_knows_its_pixel_size(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    path = export(dock, CLASS_MASK, tmp_path / "mask.tif")
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(file.asarray(), viewer.layers["mask"].data)
        assert (file.asarray() > 0).all()
        assert file.is_imagej
        assert file.imagej_metadata["unit"] == "nm"
        assert file.imagej_metadata["spacing"] == 50
        tag = file.pages[0].tags["XResolution"].value
        assert tag[0] / tag[1] == 0.25


def test_an_image_is_not_replaced_by_its_own_mask(
    viewer: Viewer, dock: UNetDock, tmp_path: Path
) -> None:
    grey = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    tifffile.imwrite(tmp_path / "em.tif", grey)
    viewer.open(tmp_path / "em.tif", plugin=PLUGIN)
    await_view(viewer, dock)

    dock.export_group.export_to(tmp_path / "em.tif")

    assert "the image itself is read from there" in messages()[-1]
    assert not dock.exporter.busy
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "em.tif"), grey)


def test_mask_of_one_class_is_255_where_the_class_is(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    path = export(dock, ONE_CLASS, tmp_path / "membrane.tif", number=2)
    expected = np.where(viewer.layers["mask"].data == 2, 255, 0)
    np.testing.assert_array_equal(tifffile.imread(path), expected)


def test_probabilities_are_those_of_the_method(
    dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    path = export(dock, PROBABILITIES, tmp_path / "all.tif", number=0)
    image, model = dock.session.image, dock.session.model
    assert image is not None
    assert model is not None
    expected = finish(gather(predict(model, image), image, len(model.classes), probabilities=True))
    found = tifffile.imread(path)
    assert found.shape == (3, SECTIONS, SIZE, SIZE)
    np.testing.assert_allclose(found, expected.data, atol=1e-6)


def test_mask_and_probabilities_are_exported_with_the_average_that_is_shown(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    dock.predict_group.stack.click()  # with one look
    await_stack(dock)
    dock.predict_group.options["test_time_augmentation"].value = "symmetries"
    image, model = dock.session.image, dock.session.model
    assert image is not None
    assert model is not None
    config = PredictionConfig(test_time_augmentation="symmetries")
    expected = finish(
        gather(predict(model, image, config), image, len(model.classes), probabilities=True)
    ).data
    mask = tifffile.imread(export(dock, CLASS_MASK, tmp_path / "mask.tif"))
    np.testing.assert_array_equal(mask, expected.argmax(axis=0) + 1)
    np.testing.assert_array_equal(mask, viewer.layers["mask"].data)
    found = tifffile.imread(export(dock, PROBABILITIES, tmp_path / "all.tif", number=0))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_export_that_waits_is_given_up_with_a_message_when_the_pixel_size_changes(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    dock.export_group.export_to(tmp_path / "mask.tif")
    dock.keeper.set_pixel_size(30.0)
    await_view(viewer, dock)
    assert any("Nothing was exported" in m for m in messages())
    assert not dock.exporter.busy
    assert not (tmp_path / "mask.tif").exists()


def test_exported_model_can_be_loaded(dock: UNetDock, image_layer: Image, tmp_path: Path) -> None:
    path = export(dock, MODEL, tmp_path / "mine.safetensors")
    model = load_model(path)
    assert dock.session.model is not None
    assert model.classes == dock.session.model.classes


def test_unknown_suffix_gets_a_message(dock: UNetDock, image_layer: Image, tmp_path: Path) -> None:
    dock.export_group.export_to(tmp_path / "mask.xyz")
    assert any("no known image format" in m for m in messages())
    assert not dock.exporter.busy


def test_missing_folder_gets_a_message_and_the_dock_stays_usable(
    dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    dock.export_group.export_to(tmp_path / "nowhere" / "mask.tif")
    wait_until(lambda: any("there is no folder" in m for m in messages()), 60, "a message")
    wait_until(lambda: dock.export_group.button.isEnabled(), 10, "the button")


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_file_save_of_napari_keeps_scale_units_and_classes(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"saved{suffix}"
    first, *others = dock.session.classes
    dock.session.classes = (first, SegmentationClass("Membran", "#123456"), *others[1:])
    assert viewer.layers["mask"].save(str(path), plugin=PLUGIN) == [str(path)]
    (opened,) = viewer.open(str(path), plugin=PLUGIN)
    assert isinstance(opened, Labels)
    np.testing.assert_array_equal(opened.data, viewer.layers["mask"].data)
    np.testing.assert_allclose(opened.scale, image_layer.scale)
    assert opened.units == image_layer.units
    assert list(opened.features["class"])[1:] == [each.name for each in dock.session.classes]
    assert [each.name for each in read_classes(path)] == list(opened.features["class"])[1:]
    if suffix == ".zarr":  # which keeps colours, too
        assert read_classes(path) == dock.session.classes


def test_mask_that_was_removed_is_made_anew_for_an_export(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    dock.predict_group.stack.click()
    await_stack(dock)
    expected = viewer.layers["mask"].data.copy()
    viewer.layers.remove("mask")
    path = export(dock, CLASS_MASK, tmp_path / "mask.tif")
    np.testing.assert_array_equal(tifffile.imread(path), expected)
    np.testing.assert_array_equal(viewer.layers["mask"].data, expected)


def test_export_of_what_cannot_be_predicted_gets_a_message_and_does_not_wait(
    viewer: Viewer, dock: UNetDock, tmp_path: Path
) -> None:
    viewer.add_image(np.full((3, SIZE, SIZE), 7, np.uint8))
    wait_until(lambda: any("is constant" in m for m in messages()), 30, "a message")
    wait_until(lambda: dock.session.model is not None, 30, "the model")
    dock.export_group.export_to(tmp_path / "mask.tif")
    assert any("Nothing can be exported yet" in m for m in messages())
    assert not dock.exporter.busy


def test_class_that_the_network_does_not_know_cannot_be_exported(
    dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    dock.correct_group.add.click()
    dock.export_group.kind.value = PROBABILITIES
    dock.export_group.class_choice.value = 4
    dock.export_group.export_to(tmp_path / "class.tif")
    assert any("does not know the class 'class 4'" in m for m in messages())


def test_exported_model_has_the_names_of_the_dock(
    dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    dock.correct_group.rename(2, "plasma membrane")
    path = export(dock, MODEL, tmp_path / "mine.safetensors")
    assert [c.name for c in load_model(path).classes][1] == "plasma membrane"


def test_file_save_into_a_missing_folder_gets_a_message(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    assert viewer.layers["mask"].save(str(tmp_path / "nowhere" / "a.tif"), plugin=PLUGIN) == []
    assert any("there is no folder" in m for m in messages())
