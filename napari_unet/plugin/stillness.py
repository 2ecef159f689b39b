"""A window that waits with drawing itself for what will have to be drawn in a moment."""

from __future__ import annotations

from contextlib import suppress

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QMainWindow

PATIENCE_MILLISECONDS = 250
"""How long a window waits at most."""


class Stillness(QObject):
    """Lets a window draw nothing for a moment; it answers to everything else meanwhile.

    Composing the picture takes the processor from what is waited for, where there is no graphics
    card, and would have to be done twice.

    Parameters
    ----------
    parent
        Something in the window.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._window: QMainWindow | None = None
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self.end)

    def begin(self) -> None:
        """Hold the picture as it is."""
        self.end()
        self._window = self._found()
        if self._window is not None:
            self._window.setUpdatesEnabled(False)
            self._patience.start(PATIENCE_MILLISECONDS)

    def end(self) -> None:
        """Let everything be drawn that has changed."""
        self._patience.stop()
        window, self._window = self._window, None
        if window is not None:
            with suppress(RuntimeError):  # the window may be gone
                window.setUpdatesEnabled(True)

    def _found(self) -> QMainWindow | None:
        """The window with the canvas, also where the dock floats in one of its own."""
        part = self.parent()
        while part is not None and not isinstance(part, QMainWindow):
            part = part.parent()
        return part
