"""File: what a session's code is given to work on, or what it made; the port Files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from arrowslit.errors import Error

MOST_BYTES = 32 * 1024 * 1024  # of one file: what one request may bring
SESSION_BYTES = 256 * 1024 * 1024
SESSION_FILES = 1000
MOST_PART = 255  # bytes of one name on a file system of Linux
MOST_PATH = 1024  # bytes; a workspace, a folder and this stay below PATH_MAX
MOST_DEPTH = 32

UNKNOWN_TYPE = "application/octet-stream"
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"  # RFC 6838, 4.2
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}( *; *{_TOKEN}=({_TOKEN}|\"[ !#-\[\]-~]*\"))*")


class Purpose(StrEnum):
    """Which way a file goes: into the sandbox, put there by the session's tenant, or out of it, sent by its worker."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a session. `name` is a relative path, see `check_path`; a session has one of that name and purpose.

    `size` is bytes, `sha256` of them in hex, `created_at` Unix seconds. `media_type` is what the sender said, and
    nothing relies on it.
    """

    id: str
    session_id: str
    name: str
    purpose: Purpose
    media_type: str
    size: int
    sha256: str
    created_at: float


class Content(Protocol):
    """The bytes of a file, open for reading: they stay when the file is deleted or replaced meanwhile."""

    async def read(self) -> bytes:
        """The next piece, a few hundred KiB at most; empty after the last."""
        ...

    def close(self) -> None:
        """Read no more."""
        ...


class Files(Protocol):
    """The files of all sessions, on disk. They go with their session.

    It asks nobody who they are: whoever calls has checked that. Raises Error `file_not_found` for a file that this
    session does not have.
    """

    async def add(
        self, session_id: str, name: str, purpose: Purpose, media_type: str, content: AsyncIterator[bytes]
    ) -> File:
        """Keep a file, in the place of the one that has its name and purpose. It is there whole, or not at all.

        Raises Error `payload_too_large` above MOST_BYTES, `quota_exceeded` above the bounds of a session, `name_taken`
        if one of the two would be a folder in the path of the other, `session_not_found`.
        """
        ...

    async def list(self, session_id: str) -> Sequence[File]:
        """All files of a session, newest first."""
        ...

    async def read(self, session_id: str, file_id: str) -> File:
        """What is known of the file."""
        ...

    async def open(self, session_id: str, file_id: str) -> tuple[File, Content]:
        """The file to be read from its beginning. The caller closes it."""
        ...

    async def delete(self, session_id: str, file_id: str) -> None:
        """Forget the file and its bytes."""
        ...


def check_path(name: str) -> str:
    """`name` if it is a plain relative path of POSIX, else Error `validation_error`.

    Its parts are separated by one `/` each and are neither `.` nor `..`; it is in the normal form NFC, so that no two
    look alike only because of how they were typed, and stands on one line wherever it is shown.
    """
    parts = name.split("/")
    reason = None
    if not all(parts):
        reason = "is not relative, or has an empty part"
    elif any(part in (".", "..") for part in parts):
        reason = "has a part that is . or .."
    elif "\\" in name or not name.isprintable():
        reason = "holds a backslash, or what cannot be printed"
    elif "\ufffd" in name or not unicodedata.is_normalized("NFC", name):
        reason = "is not Unicode in its normal form NFC"
    elif len(parts) > MOST_DEPTH or len(name.encode()) > MOST_PATH:
        reason = f"has more than {MOST_DEPTH} parts, or {MOST_PATH} bytes"
    elif any(len(part.encode()) > MOST_PART for part in parts):
        reason = f"has a part of more than {MOST_PART} bytes"
    if reason is not None:
        raise Error("validation_error", f"the file's name {reason}", hint="name a file like data/stock.csv")
    return name


def check_media_type(text: str) -> str:
    """`text` if it is a media type (RFC 9110, 8.3.1), UNKNOWN_TYPE for none, else Error `validation_error`."""
    if not text:
        return UNKNOWN_TYPE
    if len(text) > MOST_PART or not _MEDIA_TYPE.fullmatch(text):
        raise Error("validation_error", "content-type is no media type", hint="send one like text/csv, or none")
    return text


def in_the_way(one: str, other: str) -> bool:
    """Whether one of two names is a folder in the path of the other: there can be no folder that holds both."""
    return one.startswith(other + "/") or other.startswith(one + "/")
