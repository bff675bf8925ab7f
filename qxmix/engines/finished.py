"""What a matrix and its moments say of their making, and whether what is there is what a make is to write."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from qxmix import provenance
from qxmix.container.gguf_format import GENERAL_TYPE
from qxmix.container.identity import header_sha256
from qxmix.container.imatrix_load import load_imatrix
from qxmix.container.imatrix_write import format_of
from qxmix.container.model import ModelHeader
from qxmix.container.parse import GgufFile, parse_gguf
from qxmix.container.source import show_path
from qxmix.engines.calibrate import Settings, gathered_tensors
from qxmix.engines.evaluate import checked_text
from qxmix.errors import QxmixError, RunError

_FOREIGN = "another program, or a file of another kind"
_KINDS = {"-o": "imatrix", "--moments": "moments"}
"""What ``general.type`` is in what an option names."""


class Make(NamedTuple):
    """What a make runs."""

    header: ModelHeader
    text: Path
    text_bytes: bytes
    settings: Settings

    def stated(self) -> dict[str, str]:
        """What GGUF files of it say, under ``qxmix.*``: all that their values follow from."""
        return {key: value for key, value, _ in self._facts()}

    def _facts(self) -> Iterator[tuple[str, str, str]]:
        """Key, value, and what it is if a file states another."""
        yield provenance.MODEL_SHA256, header_sha256(self.header), "another model"
        yield provenance.TEXT_SHA256, hashlib.sha256(checked_text(self.text_bytes)).hexdigest(), "another text"
        s = self.settings
        chunks = f"{'all' if s.n_chunks is None else s.n_chunks} of {s.n_ctx} tokens, from {s.first_chunk} on"
        yield provenance.CHUNKS, chunks, "other chunks (--chunks, --first-chunk or --ctx)"
        output = "measured" if s.output else "left out"
        yield provenance.OUTPUT_MATRIX, output, "a make " + ("without" if s.output else "with") + " --process-output"

    def is_finished(self, path: Path, option: str, *, overwrite: bool = False) -> bool:
        """Whether a file is there as this make writes it, as far as it tells.

        A ``.dat`` has the text's name, the number of chunks and the entries, and no more.

        Args:
            path: A matrix of either format, or moments.
            option: What names it, ``-o`` or ``--moments``.
            overwrite: Whether another one may go.

        Raises:
            RunError: another one is there, and may not go.

        """
        if not path.exists():
            return False
        differs = " and ".join(self._what_differs(path, _KINDS[option]))
        if differs and not overwrite:
            text = f"is finished, and not what this make writes: it is of {differs}"
            raise RunError.at(show_path(path), f"{text}; give --overwrite to replace it, or another {option}")
        return not differs

    def _what_differs(self, path: Path, kind: str) -> list[str]:
        try:
            is_dat = format_of(path) == "dat"
            differs = self._dat_differs(path) if is_dat else self._gguf_differs(parse_gguf(path), kind)
            made = path.stat().st_mtime_ns
            if not differs and any(made < source.stat().st_mtime_ns for source in self.header.paths):
                return ["an older state of the model"]
            if not differs and is_dat and made < self.text.stat().st_mtime_ns:
                return ["an older state of the text"]
        except (OSError, QxmixError):
            return [_FOREIGN]
        return differs

    def _gguf_differs(self, file: GgufFile, kind: str) -> list[str]:
        if file.get(GENERAL_TYPE) != kind or file.get(provenance.TEXT_SHA256) is None:
            return [_FOREIGN]
        return [text for key, value, text in self._facts() if file.get(key) != value]

    def _dat_differs(self, path: Path) -> list[str]:
        found = load_imatrix(path)
        shapes = gathered_tensors(self.header, self.settings)
        sizes = {name: n_cols * n_matrices for name, (n_cols, n_matrices, _) in shapes.items()}
        differs = []
        if any(sizes.get(name) != values.size for name, values in found.entries.items()):
            differs.append("another model or other matrices of it")
        elif "output.weight" in sizes and "output.weight" not in found.entries:
            differs.append("a make without --process-output")
        if found.datasets != (self.text.name,):
            differs.append("another text")
        if self.settings.n_chunks not in {None, found.n_chunks}:
            differs.append("other chunks (--chunks)")
        return differs
