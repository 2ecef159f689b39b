"""The curve of the loss, drawn while it is learnt."""

from __future__ import annotations

import pyqtgraph
from qtpy.QtWidgets import QVBoxLayout, QWidget

POINTS = 2000
"""Steps that are drawn; beyond that the older half is thinned out."""

SMOOTHING = 0.9


class LossCurve(QWidget):
    """The loss of each step, faint, and its running mean."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip("Loss on the painted pixels, per step; the bright line is its running mean")
        self.setFixedHeight(140)
        # A part, not a base: PlotWidget answers for many names, "clear" among them.
        plot = pyqtgraph.PlotWidget(self, background=None)
        plot.setMouseEnabled(x=False, y=False)
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.setLabel("left", "loss")
        plot.setLabel("bottom", "step")
        self._each = plot.plot(pen=pyqtgraph.mkPen("#5d6574"))
        self._mean = plot.plot(pen=pyqtgraph.mkPen("#4cc9f0", width=2))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(plot)
        self.clear()

    def clear(self) -> None:
        """Begin a new curve."""
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._means: list[float] = []
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
