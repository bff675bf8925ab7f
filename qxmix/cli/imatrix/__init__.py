"""``qxmix imatrix``: the importance workshop."""

from __future__ import annotations

import click

from qxmix.cli.lazy import LazyGroup

COMMANDS = {
    "make": ("make", "Measure a matrix by running a text through a model."),
    "merge": ("merge", "Several matrices of one model as one."),
    "convert": ("convert", "From .dat to GGUF, or back; says what is lost."),
    "diff": ("diff", "What moved between two matrices, by category and layer."),
    "stats": ("stats", "How large and uneven each tensor's importances are; coverage of experts."),
}


@click.command("imatrix", cls=LazyGroup, package="qxmix.cli.imatrix", table=COMMANDS)
def command() -> None:
    """Importance matrices: which columns of each tensor's input matter, measured on text.

    Formats are told by the suffix of what is written: .gguf is llama.cpp's, with counts per expert; .dat is the legacy
    one, the only one that ik_llama.cpp reads.
    """
