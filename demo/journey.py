"""Drive the whole journey without a person: open, predict, correct, learn, export.

Usage: python -m demo.journey [STACK]

Opens a real window, paints with a real mouse and leaves ``demo-output/``: screenshots before
and after the correction, of a place worth painting, of an earlier version and of a new class, the
training curve, exported labels and ``summary.json``. The screenshots are the pictures of the
README. Without a STACK it takes the synthetic sample, whose true labels say where to paint and how
well the network does on sections without paint. A stack of your own comes without true labels, so
there nothing is painted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import numpy as np
import PIL.Image
import tifffile
from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from napari.viewer import Viewer

from demo.annotator import next_stroke
from demo.mouse import paint_stroke, wait_until
from napari_unet.core.metrics import class_scores
from napari_unet.io.files import FileReadError
from napari_unet.io.images import reader_for
from napari_unet.plugin.contributions import DOCK, PLUGIN
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.group import Group
from napari_unet.plugin.layers import show_section
from napari_unet.plugin.learning import IDLE

OUTPUT = Path("demo-output")
LAPTOP = (1366, 768)
"""Pixels of a small screen, on which everything must find its place."""

FREQUENT, RARE = 160, 96
"""Colours of a screenshot: few enough for a small file, enough to look the same."""

PAINTED_SECTIONS = (5, 7)
STROKES_PER_SECTION = 12
STROKES_OF_NEW_CLASS = 12
LEARNING_STEPS = 150
SCORED = ("membrane", "mitochondrion")


class Journey:
    """A window, the dock and the folder that keeps what is seen."""

    def __init__(self, output: Path) -> None:
        output.mkdir(exist_ok=True)
        self.output = output
        self.viewer: Viewer = napari.Viewer()
        self.viewer.window.resize(*LAPTOP)
        _, self.dock = self.viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
        self.summary: dict[str, Any] = {}
        self._told = len(notification_manager.records)

    def screenshot(self, name: str) -> None:
        """Write a picture of the whole window."""
        for notification in self.viewer.window._qt_window.findChildren(NapariQtNotification):
            notification.close()  # such as napari's word on PyQt5, which hides the picture
        settled = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > settled, 5, "half a second")
        picture = self.viewer.window.screenshot(canvas_only=False, flash=False)
        small = with_few_colours(PIL.Image.fromarray(picture).convert("RGB"))
        small.save(self.output / f"{name}.png", optimize=True)

    def fit(self) -> None:
        """Show the whole section, as the home button does."""
        settled = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > settled, 5, "the layout")
        getattr(self.viewer, "fit_to_view", self.viewer.reset_view)()

    def await_view(self) -> None:
        """Wait until the section in view shows the mask of the current model."""
        dock = self.dock

        def shown() -> bool:
            layer = dock.session.image_layer
            if dock.predictor.busy or dock.session.model is None:
                return False
            told = [record.message for record in notification_manager.records]
            if (layer is None or dock.session.statistics is None) and len(told) > self._told:
                sys.exit(f"This cannot be segmented: {told[-1]}")
            if layer is None:
                return False
            index = tuple(int(n) for n in self.viewer.dims.current_step[: layer.ndim - 2])
            return dock.predictor.is_predicted(index)

        wait_until(shown, 600, "the mask of the section in view")

    def predict_stack(self) -> None:
        """Press *The stack* and wait for it."""
        # New weights are shown once their features are there; then the masks before them are old.
        wait_until(lambda: not self.dock.live.busy, 600, "the live head to come to rest")
        self.dock.predict_group.stack.click()
        wait_until(
            lambda: not self.dock.predictor.missing_sections() and not self.dock.predictor.busy,
            1800,
            "the mask of the stack",
        )

    def export_mask(self) -> None:
        """Export the class mask and compare the file with the layer."""
        path = self.output / "mask.tif"
        done: list[str] = []
        self.dock.exporter.exported.connect(done.append)
        self.dock.export_group.export_to(path)
        wait_until(lambda: bool(done), 1800, "the exported mask")
        with tifffile.TiffFile(path) as file:
            mask = self.dock.session.mask
            self.summary["export"] = {
                "file": str(path),
                "equals the mask layer": bool(np.array_equal(file.asarray(), mask.data.squeeze())),
                "ImageJ metadata": {
                    k: v
                    for k, v in (file.imagej_metadata or {}).items()
                    if k in ("unit", "spacing", "slices")
                },
                "pixels per unit": file.pages[0].tags["XResolution"].value[0]
                / file.pages[0].tags["XResolution"].value[1],
            }

    def paint(self, truth: np.ndarray) -> int:
        """Paint strokes on the largest mistakes of some sections; return how many."""
        dock, strokes = self.dock, 0
        for z in PAINTED_SECTIONS:
            show_section(self.viewer, dock.session.image_layer, (z,))
            self.await_view()
            for _ in range(STROKES_PER_SECTION):
                corrections = dock.keeper.corrections()
                stroke = next_stroke(dock.session.mask.data[z], truth[z], corrections.data[z])
                if stroke is None:
                    break
                dock.correct_group.choose(stroke.number)
                corrections.brush_size = stroke.brush
                paint_stroke(self.viewer, corrections, stroke.path)
                strokes += 1
        return strokes

    def learn(self, steps: int) -> None:
        """Press *Start* and wait until so many steps are learnt."""
        dock = self.dock
        dock.learn_group.options["steps"].value = steps
        dock.learn_group.start.click()
        wait_until(lambda: dock.trainer.state != IDLE, 10, "the training to begin")
        wait_until(lambda: dock.trainer.state == IDLE, 1800, "the training to end")
        self.await_view()

    @contextmanager
    def only(self, *groups: Group) -> Iterator[None]:
        """Have only some groups of the dock open for a while, and in view."""
        before = {group: group.is_open for group in self.dock.groups.values()}
        for group in before:
            group.is_open = group in groups
        yield
        for group, was_open in before.items():
            group.is_open = was_open

    def where_next(self) -> None:
        """Go to a place where the model is unsure, and show how unsure it is there."""
        dock = self.dock
        with self.only(dock.correct_group, dock.suggest_group, dock.learn_group):
            dock.suggest_group.show_uncertainty.click()
            dock.suggest_group.next.click()
            wait_until(
                lambda: dock.suggester.place is not None and not dock.suggester.searching,
                600,
                "a place worth painting",
            )
            self.await_view()
            wait_until(lambda: not dock.uncertainty.busy, 600, "the uncertainty")
            self.screenshot("4-where-next")
            dock.suggest_group.show_uncertainty.click()

    def first_version(self) -> None:
        """Look at what learning began with, and at where what is in use differs from it."""
        dock = self.dock
        with self.only(dock.learn_group, dock.versions_group):
            dock.versions_group.table.selectRow(0)
            wait_until(lambda: dock.versions.number == 0, 60, "the first version")
            self.await_view()
            dock.versions_group.compare.click()
            wait_until(
                lambda: "changes" in self.viewer.layers and not dock.predictor.busy,
                600,
                "what has changed",
            )
            self.screenshot("5-versions")
            dock.versions_group.compare.click()
            dock.versions.view(dock.session.version)
        self.await_view()

    def new_class(self, labels: np.ndarray, number: int, name: str) -> None:
        """Paint a class that the network has never heard of, beside *Project* and *Export*."""
        dock, z = self.dock, PAINTED_SECTIONS[0]
        with self.only(dock.project_group, dock.correct_group, dock.export_group):
            self.fit()
            show_section(self.viewer, dock.session.image_layer, (z,))
            self.await_view()
            dock.correct_group.add.click()
            dock.correct_group.rename(number, name)
            for _ in range(STROKES_OF_NEW_CLASS):
                corrections = dock.keeper.corrections()
                # Only mistakes of this class count.
                found = dock.session.mask.data[z]
                mask = np.where((labels[z] == number) | (found == number), found, labels[z])
                stroke = next_stroke(mask, labels[z], corrections.data[z])
                if stroke is None:
                    break
                dock.correct_group.choose(stroke.number)
                corrections.brush_size = stroke.brush
                paint_stroke(self.viewer, corrections, stroke.path)
                wait_until(lambda: not dock.live.busy, 600, "the answer to the stroke")
            self.screenshot("6-new-class")

    def figures(self, truth: np.ndarray) -> dict[str, Any]:
        """Return F1 and IoU on the sections without paint."""
        held_out = [z for z in range(len(truth)) if z not in PAINTED_SECTIONS]
        scores = class_scores(self.dock.session.mask.data[held_out], truth[held_out])
        names = [c.name for c in self.dock.session.classes]
        return {
            name: {
                "f1": round(scores[names.index(name) + 1].f1 or 0, 4),
                "iou": round(scores[names.index(name) + 1].iou or 0, 4),
            }
            for name in SCORED
        }


def with_few_colours(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Return a picture with a palette that has its frequent colours, and rare ones as of curves."""
    methods = (PIL.Image.Quantize.MEDIANCUT, FREQUENT), (PIL.Image.Quantize.MAXCOVERAGE, RARE)
    palettes = (picture.quantize(count, method).getpalette() for method, count in methods)
    both = PIL.Image.new("P", (1, 1))
    both.putpalette([value for palette in palettes for value in palette or ()][: 3 * 256])
    return picture.quantize(palette=both, dither=PIL.Image.Dither.NONE)


def synthetic_journey(journey: Journey) -> None:
    """Correct the bundled network on the synthetic sample."""
    viewer, dock = journey.viewer, journey.dock
    viewer.open_sample(PLUGIN, "synthetic")
    labels = next(layer for layer in viewer.layers if layer.name == "true labels")
    assert isinstance(labels, Labels)
    # The bundled network was not taught vesicles: to it they are background.
    truth = np.where(labels.data == 4, 1, labels.data)
    journey.fit()
    show_section(viewer, viewer.layers["synthetic EM"], (PAINTED_SECTIONS[0],))
    journey.await_view()
    journey.screenshot("1-before")
    journey.predict_stack()
    before = journey.figures(truth)
    strokes = journey.paint(truth)
    show_section(viewer, dock.session.image_layer, (PAINTED_SECTIONS[0],))
    journey.screenshot("2-corrections")
    journey.learn(LEARNING_STEPS)
    journey.screenshot("3-after")
    dock.learn_group.curve.grab().save(str(journey.output / "training-curve.png"))
    if dock.session.version != 0:
        journey.first_version()
    journey.where_next()
    journey.predict_stack()
    journey.summary |= {
        "strokes": strokes,
        "painted sections": list(PAINTED_SECTIONS),
        "painted pixels": int(dock.session.annotations.counts().sum()),
        "training steps": LEARNING_STEPS,
        "held-out sections": {"before": before, "after": journey.figures(truth)},
    }
    journey.export_mask()
    journey.new_class(labels.data, 4, "vesicle")


def own_journey(journey: Journey, path: str) -> None:
    """Predict and export a stack that comes without true labels."""
    if not journey.viewer.open(path, plugin=PLUGIN):
        sys.exit(f"{path} could not be opened.")
    journey.fit()
    journey.await_view()
    journey.screenshot("1-before")
    journey.predict_stack()
    journey.summary["held-out sections"] = "no true labels, so nothing was painted or compared"
    journey.export_mask()


def main(arguments: list[str]) -> None:
    """Make the journey and write its summary."""
    began = time.monotonic()
    try:
        for path in arguments:
            reader_for(path)
    except FileReadError as error:
        sys.exit(str(error))
    journey = Journey(OUTPUT)
    dock: UNetDock = journey.dock
    try:
        if arguments:
            own_journey(journey, arguments[0])
        else:
            synthetic_journey(journey)
    except SystemExit:
        dock.predictor.stop()
        wait_until(lambda: not dock.predictor.busy, 60, "the threads to end")
        journey.viewer.close()
        raise
    journey.summary["model"] = dock.session.model.name
    journey.summary["seconds"] = round(time.monotonic() - began, 1)
    (OUTPUT / "summary.json").write_text(json.dumps(journey.summary, indent=1) + "\n")
    print(json.dumps(journey.summary, indent=1))
    journey.viewer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
