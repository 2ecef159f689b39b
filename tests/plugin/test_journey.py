"""From end to end in a real window: open, see, paint, learn, see it change, export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from napari.viewer import Viewer

from demo.annotator import next_stroke
from demo.mouse import paint_stroke, wait_until
from napari_unet.core.image import ImageArray
from napari_unet.io.images import write_image
from napari_unet.plugin.contributions import PLUGIN
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.exporting import CLASS_MASK
from tests.plugin.conftest import await_view, messages


def test_strokes_on_mistakes_mend_the_mask_and_the_export_is_what_is_shown(
    viewer: Viewer, dock: UNetDock, stack, tmp_path: Path
) -> None:
    grey, labels = stack
    truth = np.where(labels == 4, 1, labels)  # the bundled network was not taught vesicles
    path = tmp_path / "stack.tif"
    write_image(path, ImageArray(grey, "ZYX", (50.0, 4.0, 4.0), ("nm",) * 3))
    viewer.open(str(path), plugin=PLUGIN)
    await_view(viewer, dock)
    getattr(viewer, "fit_to_view", viewer.reset_view)()  # the canvas was larger without a dock
    z = int(viewer.dims.current_step[0])
    mask, corrections = viewer.layers["mask"], viewer.layers["corrections"]
    before = mask.data[z].copy()

    for _ in range(4):
        stroke = next_stroke(before, truth[z], corrections.data[z])
        assert stroke is not None
        dock.correct_group.choose(stroke.number)
        corrections.brush_size = stroke.brush
        paint_stroke(viewer, corrections, stroke.path)
    # A person also confirms what is right: a stroke of each class where the mask has it.
    for number in (1, 2, 3):
        places = np.argwhere((truth[z] == number) & (before == number))
        row, column = places[len(places) // 2]
        dock.correct_group.choose(number)
        corrections.brush_size = 2
        paint_stroke(viewer, corrections, [(row, column), (row, column + 1)])
    painted = corrections.data[z]
    mended = (painted > 0) & (before != truth[z])
    wait_until(
        lambda: int(dock.session.annotations.counts().sum()) == int((painted > 0).sum()),
        10,
        "paint",
    )
    assert mended.sum() > 20

    options = dock.learn_group.options
    options["patch_size"].value, options["steps"].value = 128, 24
    dock.learn_group.start.click()
    wait_until(lambda: dock.trainer.state == "idle", 200, "the training to end")
    await_view(viewer, dock)
    right_before = (before[mended] == painted[mended]).mean()
    right_after = (mask.data[z][mended] == painted[mended]).mean()
    assert right_after > right_before + 0.3

    wait_until(lambda: not dock.live.busy, 60, "the live head to come to rest")
    exported: list[str] = []
    dock.exporter.exported.connect(exported.append)
    dock.export_group.kind.value = CLASS_MASK
    dock.export_group.export_to(tmp_path / "mask.tif")
    wait_until(lambda: bool(exported), 60, "the exported file")
    with tifffile.TiffFile(tmp_path / "mask.tif") as file:
        np.testing.assert_array_equal(file.asarray(), mask.data)
        assert file.imagej_metadata["unit"] == "nm"
        assert file.imagej_metadata["spacing"] == 50
        pixels, units = file.pages[0].tags["XResolution"].value
        assert pixels / units == 0.25
    assert not any("rror" in m for m in messages())
