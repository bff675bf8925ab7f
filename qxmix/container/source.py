"""Input files, opened after everything that can be said without reading them has been checked.

They are read, not mapped: not every file system can map, and a file that shrinks is an error here and would be a signal
that ends the process there.  A plan of DeepSeek's header takes the same time either way.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qxmix.container.recognize import PARTIAL
from qxmix.errors import ModelFileError

if TYPE_CHECKING:
    from io import FileIO


_SHOWN = 60
_COMPARED = 1000
"""Names in a folder that are compared with one that is not there; all of a large one would take seconds."""


class Role(NamedTuple):
    """What a user gave a file as, and what helps where it is not whole."""

    name: str
    again: str
    """How to get it anew."""
    empty: str
    """What is said of one without a byte."""


_DID_NOT_FINISH = "the download or conversion did not finish, run it again"
_MAKE = "make it again with 'qxmix imatrix make --moments'"
MODEL = Role("model", "download or convert it again", _DID_NOT_FINISH)
IMATRIX = Role("importance matrix", "download or make it again", _DID_NOT_FINISH)
MOMENTS = Role("moments file", _MAKE, _MAKE)


class Given(NamedTuple):
    """A file as the user gave it: what an error about it needs to know."""

    path: Path
    role: Role = MODEL

    def bad(self, text: str) -> ModelFileError:
        """The error for a file at fault."""
        return bad_file(self.path, text)

    def damaged(self, text: str) -> ModelFileError:
        """The error for a file that contradicts itself."""
        return self.bad(f"{text}; the file is damaged: {self.role.again}")

    def cut_off(self, text: str) -> ModelFileError:
        """The error for a file that ends too early."""
        return self.bad(f"{text}; {self.role.again}")


def bad_file(path: Path, text: str) -> ModelFileError:
    """The error for an input file at fault."""
    return ModelFileError.at(show_path(path), text)


def show(text: str, width: int = _SHOWN) -> str:
    """A name from a file, quoted, on one line and cut, with nothing in it that a terminal would obey."""
    cut = text if len(text) <= width else text[: width - 3] + "..."
    return f"'{cut}'" if cut.isprintable() and "'" not in cut else ascii(cut)


def show_path(path: Path | str) -> str:
    """A path for messages: as given, unless it has characters that a terminal would obey or cannot show."""
    return str(path) if str(path).isprintable() else ascii(str(path))


class FileBytes:
    """The bytes of an open file by their position: what is sliced off is read then."""

    __slots__ = ("_file", "_nbytes", "given")

    def __init__(self, given: Given, file: FileIO, nbytes: int) -> None:
        self.given, self._file, self._nbytes = given, file, nbytes

    def __len__(self) -> int:
        """Bytes of the file when it was opened."""
        return self._nbytes

    def __getitem__(self, where: slice) -> bytes:
        """Read ``start:stop``, as far as the file goes.

        Raises:
            ModelFileError: it is shorter than it was.

        """
        start, stop, _ = where.indices(self._nbytes)
        self._file.seek(start)
        pieces, left = [], max(stop - start, 0)
        while left:
            piece = self._file.read(left)
            if not piece:
                raise self.given.bad("became shorter while it was read; wait until it is whole, and try again")
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@contextmanager
def opened(path: Path, role: Role = MODEL) -> Iterator[FileBytes]:
    """Open a regular, non-empty file to read.

    Args:
        path: The file.
        role: What the user gave it as, for the errors.

    Raises:
        ModelFileError: it is missing, a folder, no regular file, empty, or may not be read.

    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise bad_file(path, _folder_text(path, role))
        if not stat.S_ISREG(status.st_mode):
            raise bad_file(path, f"is no regular file but a pipe or device; save the {role.name} to a file first")
        with path.open("rb", buffering=0) as file:
            if not status.st_size:
                raise bad_file(path, f"is empty (0 bytes); {role.empty}")
            yield FileBytes(Given(path, role), file, status.st_size)
    except FileNotFoundError as error:
        raise bad_file(path, _missing_text(path, role)) from error
    except PermissionError as error:
        raise bad_file(path, "may not be read by you (permission denied); change its mode or owner") from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise bad_file(path, f"cannot be read: {error.strerror.lower()}") from error
        raise bad_file(path, f"cannot be read: {error}") from error


def _missing_text(path: Path, role: Role) -> str:
    if path.is_symlink():
        return f"is a link to {show(str(path.readlink()), 200)}, which does not exist; download the {role.name} again"
    if not path.parent.is_dir():
        return f"no such file, nor is there a folder {show(str(path.parent), 200)}; check the path of the {role.name}"
    if role is MODEL and path.with_name(f"{path.name}{PARTIAL}").exists():
        return "no such file yet; an apply is at it, or was interrupted and goes on with --resume"
    there = list(islice(path.parent.iterdir(), _COMPARED))
    shards = [p.name for p in there if p.name.startswith(f"{path.stem}-00001-of-")]
    # By the stem: two short names with the same suffix would always be alike.
    stems = {p.stem: p.name for p in there}
    near = shards or [stems[stem] for stem in get_close_matches(path.stem, stems, 1)]
    hint = f"did you mean {show(near[0], 200)}?" if near else f"check the path of the {role.name}"
    return f"no such file; {hint}"


def _folder_text(path: Path, role: Role) -> str:
    names = sorted(p.name for p in path.iterdir())
    if role is MODEL and ("config.json" in names or any(n.endswith(".safetensors") for n in names)):
        return (
            "is a folder with a model in Hugging Face format; convert it first: "
            "python convert_hf_to_gguf.py FOLDER --outtype bf16 --outfile model.gguf (a script of llama.cpp), then "
            "give model.gguf"
        )
    ggufs = [n for n in names if n.endswith(".gguf")]
    if ggufs:
        return f"is a folder; give the file in it, such as {show(ggufs[0], 200)}"
    return f"is a folder; give the {role.name}'s file"
