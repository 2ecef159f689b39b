"""Curves of F1, as a picture."""

from __future__ import annotations

from pathlib import Path

import pyqtgraph
from pyqtgraph.exporters import ImageExporter
from qtpy.QtCore import Qt

from benchmarks.annotation.records import Record
from benchmarks.annotation.tools import TOOLS

COLOURS = (
    "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#8a6d3b", "#555555", "#d55e00",
)  # fmt: skip
"""Told apart also by people who see few colours (M. Okabe, K. Ito)."""

AXES = (
    ("strokes", "strokes"),
    ("annotation_seconds", "seconds of annotation"),
    ("machine_seconds", "seconds of the machine"),
)


def plot(records: dict[str, Record], path: Path) -> None:
    """Write a picture of F1 after strokes, after seconds of annotation, and of the machine.

    Parameters
    ----------
    records
        Runs of one task that did not fail, by tool.
    path
        A PNG file.
    """
    application = pyqtgraph.mkQApp()
    layout = pyqtgraph.GraphicsLayoutWidget()
    layout.setAttribute(Qt.WA_DontShowOnScreen)
    layout.setBackground("w")
    layout.resize(1800, 430)
    beside = layout.addViewBox(0, len(AXES))
    beside.setFixedWidth(340)
    legend = pyqtgraph.LegendItem(labelTextColor="k")
    legend.setParentItem(beside)
    legend.anchor((0, 0), (0, 0))
    for place, (key, label) in enumerate(AXES):
        axes = layout.addPlot(0, place)
        axes.setLabel("bottom", label, color="k")
        axes.setLabel("left", "F1 on the scored sections", color="k")
        axes.showGrid(x=True, y=True, alpha=0.15)
        axes.setYRange(0, 1)
        for side in ("bottom", "left"):
            axes.getAxis(side).setPen("k")
            axes.getAxis(side).setTextPen("k")
        for tool, record in records.items():
            colour = COLOURS[list(TOOLS).index(tool)]
            points = record["points"]
            curve = axes.plot(
                [point[key] for point in points],
                [point["f1"] for point in points],
                pen=pyqtgraph.mkPen(
                    colour,
                    width=2,
                    style=Qt.SolidLine if "unet" in TOOLS[tool].title else Qt.DashLine,
                ),
                symbol="o",
                symbolSize=6,
                symbolBrush=colour,
                symbolPen=None,
            )
            if not place:
                legend.addItem(curve, TOOLS[tool].title)
    layout.show()
    application.processEvents()
    path.parent.mkdir(parents=True, exist_ok=True)
    ImageExporter(layout.scene()).export(str(path))
    layout.close()
