"""The curves of loss and held-out IoU, drawn while it is learnt."""

from __future__ import annotations

import pyqtgraph
from qtpy.QtWidgets import QVBoxLayout, QWidget

POINTS = 2000
"""Steps that are drawn; beyond that the older half is thinned out."""

SMOOTHING = 0.9


LOSS, IOU = "#4cc9f0", "#ffbf00"


class LossCurve(QWidget):
    """The loss of each step, faint, and its running mean; the IoU of published weights."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip(
            "Blue: loss on the painted pixels, per step; the bright line is its running mean. "
            "Yellow: mean IoU of new weights on the paint that is held out"
        )
        self.setFixedHeight(140)
        # A part, not a base: PlotWidget answers for many names, "clear" among them.
        plot = pyqtgraph.PlotWidget(self, background=None)
        plot.setMouseEnabled(x=False, y=False)
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.setLabel("left", "loss", color=LOSS)
        plot.setLabel("bottom", "step")
        self._each = plot.plot(pen=pyqtgraph.mkPen("#5d6574"))
        self._mean = plot.plot(pen=pyqtgraph.mkPen(LOSS, width=2))
        # pyqtgraph draws against a second axis in a view of its own, laid over the first one.
        item = plot.getPlotItem()
        item.setLabel("right", "held-out IoU", color=IOU)
        for side in ("left", "right"):
            item.getAxis(side).enableAutoSIPrefix(False)  # "loss (x0.001)" tells nobody more
        item.hideAxis("right")
        self._item, self._over = item, pyqtgraph.ViewBox(enableMouse=False, enableMenu=False)
        item.scene().addItem(self._over)
        item.getAxis("right").linkToView(self._over)
        self._over.setXLink(item)
        self._over.setYRange(0, 1, padding=0.02)
        item.vb.sigResized.connect(self._lay_over)
        self._iou = pyqtgraph.PlotDataItem(
            pen=pyqtgraph.mkPen(IOU, width=2),
            symbol="o",
            symbolSize=4,
            symbolBrush=IOU,
            symbolPen=None,
        )
        self._over.addItem(self._iou)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(plot)
        self.clear()

    def clear(self) -> None:
        """Begin a new curve."""
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._means: list[float] = []
        self._measured: list[tuple[int, float]] = []
        self._item.hideAxis("right")
        self._draw()

    def add(self, step: int, loss: float) -> None:
        """Add the loss of a step."""
        mean = SMOOTHING * self._means[-1] + (1 - SMOOTHING) * loss if self._means else loss
        self._steps.append(step)
        self._losses.append(loss)
        self._means.append(mean)
        if self.count > POINTS:
            for values in (self._steps, self._losses, self._means):
                del values[: POINTS // 2 : 2]
        self._draw()

    def add_iou(self, step: int, iou: float) -> None:
        """Add the mean IoU of the weights after a step on what is held out."""
        self._measured.append((step, iou))
        self._item.showAxis("right")
        self._iou.setData(*zip(*self._measured, strict=True))

    @property
    def ious(self) -> list[float]:
        """What was measured so far."""
        return [iou for _, iou in self._measured]

    @property
    def count(self) -> int:
        return len(self._steps)

    @property
    def latest(self) -> float:
        """The running mean of the loss."""
        return self._means[-1]

    def _draw(self) -> None:
        self._each.setData(self._steps, self._losses)
        self._mean.setData(self._steps, self._means)
        if not self._measured:
            self._iou.setData([], [])

    def _lay_over(self) -> None:
        self._over.setGeometry(self._item.vb.sceneBoundingRect())
        self._over.linkedViewChanged(self._item.vb, self._over.XAxis)
