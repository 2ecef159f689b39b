"""A window that waits with drawing itself for what will have to be drawn in a moment."""

from __future__ import annotations

from contextlib import suppress

from qtpy.QtCore import QCoreApplication, QEvent, QObject, QTimer
from qtpy.QtWidgets import QMainWindow

PATIENCE_MILLISECONDS = 250
"""How long a window waits at most."""


class Stillness(QObject):
    """Lets a window draw nothing for a moment; it answers to everything else meanwhile.

    Composing the picture takes the processor from what is waited for, where there is no graphics
    card, and would have to be done twice. Qt's requests for it are kept back, instead of the window
    being forbidden to draw (`setUpdatesEnabled`): allowed again, it would draw all of itself, and
    not what has changed only.

    Parameters
    ----------
    parent
        Something in the window.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._window: QMainWindow | None = None
        self._asked = False
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self.end)

    @property
    def holds(self) -> bool:
        """Whether the picture is held as it is."""
        return self._window is not None

    def begin(self) -> None:
        """Hold the picture as it is."""
        self.end()
        self._window = self._found()
        if self._window is not None:
            self._window.installEventFilter(self)
            self._patience.start(PATIENCE_MILLISECONDS)

    def end(self) -> None:
        """Let everything be drawn that has changed."""
        self._patience.stop()
        window, self._window = self._window, None
        asked, self._asked = self._asked, False
        if window is not None:
            with suppress(RuntimeError):  # the window may be gone
                window.removeEventFilter(self)
                if asked:
                    QCoreApplication.postEvent(window, QEvent(QEvent.Type.UpdateRequest))

    def eventFilter(self, _: QObject, event: QEvent) -> bool:  # noqa: N802 - the name is Qt's
        """Keep requests to draw back; of several, Qt sends one."""
        if event.type() == QEvent.Type.UpdateRequest:
            self._asked = True
            return True
        return False

    def _found(self) -> QMainWindow | None:
        """The window with the canvas, also where the dock floats in one of its own."""
        part = self.parent()
        while part is not None and not isinstance(part, QMainWindow):
            part = part.parent()
        return part
