"""The wheel of shipped kernels, which pip installs.

Source: "Binary distribution format" and "Core metadata" of the Python Packaging User Guide.  Equal files give equal
bytes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from errno import EACCES
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from qxmix.errors import RunError
from qxmix.quants.kernels.processor_levels import ProcessorLevel
from qxmix.quants.kernels.shipped import DISTRIBUTION, PACKAGE


def refuse_folder(folder: Path) -> None:
    """Make the folder that a wheel is to be written into, before a quarter of an hour of compiling.

    Raises:
        RunError: it cannot be made, or nothing be written into it.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
    except OSError as error:
        raise RunError(f"{folder}: no wheel can be written into it: {error.strerror}; give another --wheel") from None


def write_wheel(folder: Path, version: str, levels: Iterable[ProcessorLevel], files: Mapping[str, Path]) -> Path:
    """Write the wheel with ``files``, by their names in the package, into ``folder``, which is made; returns its path.

    Args:
        folder: Where it goes; a wheel of the same name is replaced by a whole one.
        version: Of qxmix, which is the wheel's own, too.
        levels: What the kernels are for, all of one family.
        files: What the package has beside its ``__init__.py``.

    Raises:
        RunError: it cannot be written.

    """
    names, (machine,) = [level.name for level in levels], {level.machine for level in levels}
    # The code calls memcpy and the like, and stands in no ELF file that has a version of them to ask for.
    tag = f"py3-none-manylinux2014_{machine}"
    path = folder / f"{PACKAGE}-{version}-{tag}.whl"
    about = f"Compiled kernels of qxmix {version} for {' and '.join(names)}"
    contents = {f"{PACKAGE}/__init__.py": f'"""{about}."""\n'.encode()}
    contents |= {f"{PACKAGE}/{name}": file.read_bytes() for name, file in sorted(files.items())}
    info = f"{PACKAGE}-{version}.dist-info"
    contents |= {f"{info}/METADATA": _metadata(version, about), f"{info}/WHEEL": _wheel(version, tag)}
    lines = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in contents.items()]
    contents[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    partial = path.with_name(f"{path.name}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_zip(partial, contents)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def _metadata(version: str, about: str) -> bytes:
    lines = (
        "Metadata-Version: 2.1", f"Name: {DISTRIBUTION}", f"Version: {version}", f"Summary: {about}", "License: MIT",
        f"Requires-Dist: qxmix=={version}",
    )  # fmt: skip
    return "".join(f"{line}\n" for line in lines).encode()


def _wheel(version: str, tag: str) -> bytes:
    return f"Wheel-Version: 1.0\nGenerator: qxmix {version}\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _write_zip(path: Path, contents: Mapping[str, bytes]) -> None:
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in contents.items():
            member = ZipInfo(name)  # of 1980, whenever it is written
            member.external_attr, member.compress_type = 0o100644 << 16, ZIP_DEFLATED
            archive.writestr(member, data)
