"""The process that started this one."""

from __future__ import annotations

import os
import sys
import threading
import time

_SECONDS = 0.5
"""Between two looks."""


def end_with_parent() -> None:
    """From now on, end this process once the one that started it is gone.

    A child that is asked by a pipe finds it closed when it has answered, which may be minutes later; until then it
    would keep a processor busy that nobody knows of.  A worker of an executor would wait for work for ever, and hold
    the terminal.
    """
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    # What multiprocessing started has something to wait for, on Windows, too, where a child keeps its parent's number.
    started = sys.modules.get("multiprocessing.process")
    known = started.parent_process() if started else None
    if known is not None:
        known.join()
    else:
        while os.getppid() == parent:
            time.sleep(_SECONDS)
    os._exit(1)
