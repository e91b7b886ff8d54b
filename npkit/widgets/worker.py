"""Worker: a panel's work in a thread of its own, with progress, a way to cancel it, and errors as sentences.

Since version 7, ipykernel runs no asyncio task of a cell that has completed (ipykernel issue 1510), and what a thread
prints reaches no `Output` (ipywidgets issue 3993). So the work is done by a plain thread, and its results are values of
widgets: each of them is a message that the thread sends at once.
"""
import logging
import threading
from collections.abc import Callable

from npkit.errors import NpkitError

LOG = logging.getLogger(__name__)


class Cancelled(Exception):
    """The user has cancelled the work."""


class Worker:
    """One piece of work at a time for one panel.

    `on_progress(done, total, words)` shows how far it is, `on_end(sentence)` ends it: "" where all went well, else what
    went wrong. Both are called in the thread that works.
    """

    def __init__(self, on_progress: Callable[[int, int, str], None], on_end: Callable[[str], None]):
        self.on_progress, self.on_end = on_progress, on_end
        self.cancelled = threading.Event()
        self.busy = False
        self.thread: threading.Thread | None = None

    def start(self, work: Callable[[Callable[..., None]], None]) -> bool:
        """Start `work(tell)` in a thread, unless the last one is still going on; return whether it was started.

        The work calls `tell(done, total, words)` as often as it can: it ends there when it has been cancelled.
        """
        if self.busy:
            return False
        self.busy = True
        self.cancelled.clear()
        self.thread = threading.Thread(target=self._run, args=(work,), name="npkit-panel", daemon=True)
        self.thread.start()
        return True

    def cancel(self) -> None:
        """Let the work end at its next step."""
        self.cancelled.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the work has ended, at most `timeout` seconds; return whether it has."""
        if self.thread is not None:
            self.thread.join(timeout)
        return self.thread is None or not self.thread.is_alive()

    def tell(self, done: int = 0, total: int = 0, words: str = "") -> None:
        """Show how far the work is (where `words` say what it does), or end it where it has been cancelled."""
        if self.cancelled.is_set():
            raise Cancelled
        if words:
            self.on_progress(done, total, words)

    def _run(self, work: Callable[[Callable[..., None]], None]) -> None:
        try:
            work(self.tell)
            sentence = ""
        except Cancelled:
            sentence = "Cancelled. What was there before has been kept."
        except NpkitError as error:
            sentence = str(error)
        except Exception as error:  # nothing may vanish in a thread
            LOG.exception("the work of a panel failed")
            sentence = (f"npkit itself failed, not your request: {type(error).__name__}: "
                        f"{' '.join(str(error).split())[:300]}")
        self.busy = False  # before the panel lets the user start again
        self.on_end(sentence)
