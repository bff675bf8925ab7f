"""How many files are open at once when several outputs are made together, and whether the system lets them be."""

from __future__ import annotations

from qxmix.errors import RunError
from qxmix.processors import n_processors

_SPARE = 64
"""Files that are open anyway: libraries, streams, a compiler's cache."""
_PIPES = 4
"""Files per worker process, whoever it is."""


def allow_open_files(n_outputs: int, executor: str, n_workers: int | None) -> None:
    """Raise this process's limit on open files to what the work needs, as far as the system lets it go.

    Raises:
        RunError: it does not go as far.

    """
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    n = n_workers or n_processors()
    # A worker in this process holds the model and every output open; so does a worker process, in its own count.
    n_here = 1 if executor in {"serial", "processes"} or executor.startswith("dask:") else n
    needed = n_here * (1 + n_outputs) + n_outputs + _PIPES * n + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    allows = hard if hard != resource.RLIM_INFINITY and needed > hard else None
    if allows is None:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        except (OSError, ValueError):  # macOS names no limit and has one
            allows = soft
    if allows is not None:
        text = (
            f"{n_outputs} outputs with {n} workers need {needed:,} open files and the system allows {allows:,};"
            " use fewer workers (-j), fewer recipes at once, or raise the limit (ulimit -n)"
        )
        raise RunError(text)
