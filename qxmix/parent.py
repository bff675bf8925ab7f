"""The process that started this one."""

from __future__ import annotations

import os
import threading
import time

_SECONDS = 0.5
"""Between two looks."""


def end_with_parent() -> None:
    """From now on, end this process once the one that started it is gone.

    A child that is asked by a pipe finds it closed when it has answered, which may be minutes later; until then it
    would keep a processor busy that nobody knows of.  (On Windows a child keeps its
    parent's number, and nothing is seen.)
    """
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
