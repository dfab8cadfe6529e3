"""The HMAC secrets of a mounted folder, read again when its files change."""

import logging
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import SecretStr

MAX_SECRET_BYTES: Final = 4096

_log = logging.getLogger(__name__)

_Stamp = tuple[str, int, int, int]
"""Name, inode, modification time and size of a file; a swapped `..data` link changes the inode."""


class Secrets:
    """
    One secret a file, as Kubernetes mounts a Secret; every one of them is accepted.

    Names that begin with `..` are the mount's own.  One line break at the end of a file is not
    part of the secret.  Files that hold no usable secret (empty, over 4 KiB, not UTF-8) are left
    out, with a log line that names the file.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._stamps: list[_Stamp] = []
        self._secrets: Mapping[str, SecretStr] = {}

    def current(self) -> tuple[SecretStr, ...]:
        """Return the secrets of now.  Costs a stat for each file while nothing has changed."""
        return tuple(self.named().values())

    def named(self) -> Mapping[str, SecretStr]:
        """Return them by the names of their files."""
        stamps = _stamps_of(self._folder)
        if stamps != self._stamps:
            # The stamps are older than what is read next: a change in between is seen next time.
            self._secrets = _read_all(self._folder, stamps)
            self._stamps = stamps
        return self._secrets

    def are_loaded(self) -> bool:
        """Say whether there is a secret to check signatures with; without one, not ready."""
        return bool(self.current())


def _stamps_of(folder: Path | None) -> list[_Stamp]:
    """Return the stamps of the secret files, by name; none where there is no such folder."""
    if folder is None:
        return []
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith(".."))
    except OSError:
        return []
    return [stamp for path in paths if (stamp := _stamp_of(path)) is not None]


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return path.name, found.st_ino, found.st_mtime_ns, found.st_size


def _read_all(folder: Path | None, stamps: list[_Stamp]) -> Mapping[str, SecretStr]:
    if folder is None:
        return {}
    read = ((name, _read(folder / name)) for name, *_ in stamps)
    secrets = {name: secret for name, secret in read if secret is not None}
    _log.info("%d secret(s) read from %s", len(secrets), folder)
    return secrets


def _read(path: Path) -> SecretStr | None:
    """Return the secret of one file, or None and a log line when it holds none that is usable."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 3)  # Two for the line break, one to see more.
        text = _without_line_break(raw).decode()
    except (OSError, UnicodeDecodeError) as error:
        _log.warning("secret file %s left out: %s", path.name, type(error).__name__)
        return None
    if not text.strip() or len(text.encode()) > MAX_SECRET_BYTES:
        _log.warning("secret file %s left out: empty or over 4 KiB", path.name)
        return None
    return SecretStr(text)


def _without_line_break(raw: bytes) -> bytes:
    return raw[:-2] if raw.endswith(b"\r\n") else raw.removesuffix(b"\n")
