"""One look for all that is drawn: charts, pictures and pages share fonts, colours and units.

The colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart; quantities go from
dark to light along viridis, so that they survive print in grey.
"""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from qxmix.errors import RunError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONTS = ("Inter", "Helvetica Neue", "Arial", "DejaVu Sans", "sans-serif")
INK, PAPER, FAINT = "#1b1f24", "#ffffff", "#d0d7de"
BAR, ASKED = "#0072b2", "#b35900"
"""What is there, and what was asked for or is talked about."""
FONT_SIZE = 14
"""Of charts, in pixels of a page."""
QUANTITY = "viridis"
_FORMATS = (".png", ".svg", ".pdf")


def pyplot() -> ModuleType:
    """Matplotlib's ``pyplot`` in this look, drawing to files alone.

    Raises:
        RunError: matplotlib is not installed.

    """
    try:
        mpl = import_module("matplotlib")  # an extra, and half a second of import
    except ImportError:
        raise RunError('pictures are drawn by matplotlib, which is not installed; pip install "qxmix[plot]"') from None
    mpl.use("agg")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # which fonts of the list are not there
    mpl.rcParams.update(
        {
            "font.family": "sans-serif",
            "font.sans-serif": FONTS[:-1],
            "svg.fonttype": "none",  # words stay words, that can be searched and read aloud
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.grid": True,
            "grid.color": FAINT,
            "axes.axisbelow": True,
            "figure.facecolor": PAPER,
            "svg.hashsalt": "qxmix",  # the same picture is the same file
        }
    )
    return import_module("matplotlib.pyplot")


def check_picture(path: Path) -> None:
    """Refuse a picture that cannot be drawn, before anything is computed for it.

    Raises:
        RunError: an unknown ending, or no matplotlib.

    """
    if path.suffix.lower() not in _FORMATS:
        raise RunError(f"{path}: a picture ends in {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}")
    pyplot()


def save_picture(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Write ``figure`` to ``path``, without a date, so that the same picture is the same file.

    Raises:
        RunError: it cannot be written.

    """
    kind = path.suffix.lower()
    # By whom it is made tells --plot that it may be replaced.
    metadata = {".svg": {"Date": None, "Creator": "qxmix"}, ".pdf": {"CreationDate": None, "Creator": "qxmix"}}.get(
        kind, {"Software": "qxmix"}
    )
    with RunError.of_system(path, "the picture cannot be written"):
        figure.savefig(path, metadata=metadata, dpi=dpi)
