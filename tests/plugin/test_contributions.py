"""What napari finds of the plugin: menus, samples, readers, widgets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from napari.viewer import Viewer
from npe2 import PluginManifest
from npe2.manifest.utils import import_python_name

from demo.mouse import wait_until
from napari_unet.core.image import ImageArray
from napari_unet.io.files import FileReadError
from napari_unet.io.images import write_image
from napari_unet.plugin import contributions
from napari_unet.plugin.contributions import PLUGIN
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.layers import told_classes
from tests.plugin.conftest import await_view, messages


def test_every_command_of_the_manifest_can_be_imported() -> None:
    commands = PluginManifest.from_distribution(PLUGIN).contributions.commands or []
    assert len(commands) == 10
    for command in commands:
        assert callable(import_python_name(command.python_name))


def test_synthetic_sample_has_an_image_and_its_true_labels(viewer: Viewer) -> None:
    image, labels = viewer.open_sample(PLUGIN, "synthetic")
    assert isinstance(image, Image)
    assert isinstance(labels, Labels)
    assert image.data.shape == labels.data.shape == (12, 512, 512)
    assert set(np.unique(labels.data)) == {1, 2, 3, 4}
    np.testing.assert_array_equal(image.scale, (50, 4, 4))


def test_isbi_sample_without_a_network_gives_a_message(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(**_: object) -> None:
        raise FileReadError("The sample ISBI 2012 could not be downloaded (no connection).")

    monkeypatch.setattr("napari_unet.io.samples.isbi2012", offline)
    assert contributions.isbi_sample() == []
    assert any("could not be downloaded" in m for m in messages())


def test_stack_opens_with_scale_units_and_axis_names(viewer: Viewer, tmp_path: Path) -> None:
    path = tmp_path / "été 1.tif"
    data = np.random.default_rng(0).integers(0, 255, (3, 20, 30), np.uint8)
    write_image(path, ImageArray(data, "ZYX", (50.0, 4.0, 4.0), ("nm",) * 3))
    (layer,) = viewer.open(str(path), plugin=PLUGIN)
    np.testing.assert_array_equal(layer.data, data)
    np.testing.assert_allclose(layer.scale, (50, 4, 4))
    assert [str(u) for u in layer.units] == ["nanometer"] * 3
    assert layer.axis_labels == ("z", "y", "x")


def test_channels_become_layers(viewer: Viewer, tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    data = np.random.default_rng(0).integers(0, 255, (2, 3, 20, 30), np.uint8)
    write_image(path, ImageArray(data, "CZYX", (1.0, 50.0, 4.0, 4.0), ("", "nm", "nm", "nm")))
    layers = viewer.open(str(path), plugin=PLUGIN)
    assert [layer.data.shape for layer in layers] == [(3, 20, 30)] * 2


def test_menu_segment_opens_the_dock_and_predicts(viewer: Viewer, stack) -> None:
    viewer.add_image(stack[0][0])
    contributions.segment()
    dock = contributions.open_dock(viewer)
    assert isinstance(dock, UNetDock)
    await_view(viewer, dock)


def test_menu_annotate_chooses_the_brush(viewer: Viewer, stack) -> None:
    viewer.add_image(stack[0][0])
    contributions.annotate()
    layer = viewer.layers["corrections"]
    assert (layer.mode, layer.selected_label) == ("paint", 2)
    await_view(viewer, contributions.open_dock(viewer))


def test_masks_are_compared_in_the_widget(viewer: Viewer) -> None:
    truth = np.array([[[1, 1, 2, 2]] * 4, [[2, 2, 2, 2]] * 4])
    found = np.array([[[1, 2, 2, 2]] * 4, [[2, 2, 1, 1]] * 4])
    contributions.compare()
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Compare masks")
    widget.prediction.value = viewer.add_labels(found, name="found")
    widget.truth.value = viewer.add_labels(truth, name="truth")
    widget.button.click()
    wait_until(lambda: "0.727" in widget.result.text(), 10, "F1 of class 2: 2*16 / (2*16 + 12)")


def test_closing_the_dock_ends_its_threads_and_leaves_the_viewer_usable(
    viewer: Viewer, dock: UNetDock, image_layer: Image, stack
) -> None:
    predictor = dock.predictor
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    wait_until(lambda: PLUGIN not in str(viewer.window.dock_widgets), 10, "the dock to close")
    viewer.add_image(stack[0], scale=image_layer.scale, units=image_layer.units)
    viewer.dims.set_current_step(0, 0)
    assert predictor is not None
    assert messages() == []


@pytest.mark.parametrize("column", [["a", "b", "c"], ["", "a"], ["", "a", "a"], [], [1, 2, 3]])
def test_features_that_somebody_made_are_not_taken_for_names_of_classes(column: list) -> None:
    assert told_classes({"features": {"class": column}}) == ()
    assert told_classes({"features": {"area": column}}) == ()


def test_damaged_file_gets_a_message_and_no_layer(viewer: Viewer, tmp_path: Path) -> None:
    path = tmp_path / "damaged.tif"
    path.write_bytes(b"II*\x00 and no more")
    assert viewer.open(str(path), plugin=PLUGIN) == []
    assert any(f"Cannot read {path}" in m for m in messages())
    assert len(viewer.layers) == 0


@pytest.mark.parametrize("planes_first", [True, False])
def test_colour_file_opens_as_a_colour_layer(
    viewer: Viewer, tmp_path: Path, planes_first: bool
) -> None:
    data = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    path = tmp_path / "colour.tif"
    if planes_first:
        tifffile.imwrite(path, np.moveaxis(data, -1, 0), photometric="rgb", planarconfig="separate")
    else:
        tifffile.imwrite(path, data, photometric="rgb")
    (layer,) = viewer.open(str(path), plugin=PLUGIN)
    assert layer.rgb
    np.testing.assert_array_equal(layer.data, data)
