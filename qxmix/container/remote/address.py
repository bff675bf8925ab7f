"""Addresses of models: of any web server, or of the hub."""

from __future__ import annotations

import os
from typing import NamedTuple, TypeGuard
from urllib.parse import quote, unquote, urlsplit

from qxmix.errors import ModelFileError

_SCHEMES = ("https://", "http://", "hf://")


def is_remote(path: object) -> TypeGuard[str]:
    """Whether a model is given by an address instead of a path."""
    return isinstance(path, str) and path.lower().startswith(_SCHEMES)


class Address(NamedTuple):
    """Where one file is."""

    folder: str
    """The address of its folder: ``https://host/models`` or ``hf://owner/repo``."""
    name: str
    """The file's name, not quoted."""
    revision: str = ""
    """Of the hub: branch, tag or commit; empty for the main one."""
    query: str = ""
    """What follows the ``?`` of a web address; it may be a secret."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Take an address apart.

        Raises:
            ModelFileError: it names no file.

        """
        scheme, _, rest = text.partition("://")
        scheme = scheme.lower()
        if scheme == "hf":
            path, _, revision = rest.partition("@")
            folder, _, name = path.rpartition("/")
            if folder.count("/") < 1 or not name or not all(folder.split("/")):
                told = "is no file of the hub; it must be like hf://owner/repo/file.gguf[@revision]"
                raise ModelFileError.at(text, told)
            return cls(f"hf://{folder}", unquote(name), unquote(revision))
        parts = urlsplit(f"{scheme}://{rest}")
        folder, _, name = parts.path.rpartition("/")
        address = cls(f"{scheme}://{parts.netloc}{folder}", unquote(name), "", parts.query)
        if not parts.hostname or not name:
            raise ModelFileError.at(address, "names no file; it must be like https://host/path/model.gguf")
        return address

    def beside(self, name: str) -> Address:
        """The address of another file in the same folder."""
        return self._replace(name=name)

    @property
    def on_hub(self) -> bool:
        """Whether it is a file of the hub."""
        return self.folder.startswith("hf://")

    @property
    def url(self) -> str:
        """Where to ask for it."""
        if not self.on_hub:
            return f"{self.folder}/{quote(self.name)}" + (f"?{self.query}" if self.query else "")
        owner, repo, *inner = self.folder.removeprefix("hf://").split("/")
        path = "/".join(map(quote, [*inner, self.name]))
        hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        return f"{hub}/{quote(owner)}/{quote(repo)}/resolve/{quote(self.revision or 'main', safe='')}/{path}"

    def __str__(self) -> str:
        """As the user gave it, without what may be secret: a password, a signed query."""
        scheme, _, rest = self.folder.partition("://")
        host, slash, inner = rest.partition("/")
        revision = f"@{self.revision}" if self.revision else ""
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{inner}/{self.name}{revision}"


def remote_error(address: Address, text: str) -> ModelFileError:
    """The error for a remote file at fault."""
    return ModelFileError.at(address, text)
