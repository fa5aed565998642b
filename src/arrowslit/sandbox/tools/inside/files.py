"""Read, write and edit one file of the workspace."""

# No pathlib: it is ten milliseconds and two megabytes more for each session.
# ruff: noqa: PTH122

from __future__ import annotations

import binascii
import errno
import os
import sys
from contextlib import contextmanager

from arrowslit.sandbox.tools.inside.workspace import Refused, Workspace, reason, regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    Found: TypeAlias = str | dict[str, str]  # text, or the media type and the base64 data of what is shown

CHUNK = 64 * 1024
MOST_TEXT = 256 * 1024  # bytes that `read` and `edit` take whole
MOST_IMAGE = 5 * 1024 * 1024 // 4 * 3  # bytes, so that base64 has at most 5 MiB: the API's limit for one image
MOST_PDF = 20 * 1024 * 1024  # bytes: so much fits into a request
MEDIA = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".pdf": "application/pdf",
}


def read(workspace: Workspace, file_path: str, view_range: list[int] | None = None) -> Found:
    """The text of a file, of its lines [first, last], or an image or document, as its name says. Raises Refused."""
    full = workspace.resolve(file_path)
    if view_range and len(view_range) != 2:
        raise Refused("view_range must be [start_line, end_line]")
    with _opened(workspace, full, os.O_RDONLY, file_path) as (fd, size):
        media = MEDIA.get(os.path.splitext(full)[1].lower())
        if media is not None:
            if view_range:
                raise Refused("view_range is not supported for image/PDF files")
            return {"media_type": media, "data": _base64(fd, size, media, file_path)}
        if view_range:
            return _text(_lines(fd, file_path, view_range[0], view_range[1]), file_path)
        return _text(_whole_text(fd, size, file_path, _USE_A_RANGE), file_path)


def write(workspace: Workspace, file_path: str, content: str) -> Found:
    """Put a text in place of what was there. Raises Refused; a full disk then has left the file as it was."""
    data = _encoded(content, "content")
    full = workspace.resolve(file_path)
    with _opened(workspace, full, os.O_WRONLY | os.O_CREAT, file_path) as (fd, _):
        _put(fd, data)
    return f"wrote {len(content)} bytes to {file_path}"


def edit(
    workspace: Workspace, file_path: str, old_string: str, new_string: str, replace_all: bool | None = None
) -> Found:
    """Replace a string that stands there once, or everywhere. Raises Refused."""
    _encoded(new_string, "new_string")
    full = workspace.resolve(file_path)
    with _opened(workspace, full, os.O_RDWR, file_path) as (fd, size):
        data = _whole_text(fd, size, file_path, _CANNOT_EDIT)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise Refused(f"{file_path}: not valid UTF-8 text (cannot edit binary files)") from None
        count = text.count(old_string)
        if count == 0:
            raise Refused(f"old_string not found in {file_path}")
        if count > 1 and not replace_all:
            raise Refused(f"old_string appears {count} times in {file_path} (must be unique)")
        _put(fd, text.replace(old_string, new_string).encode())
    return f"edited {file_path} ({count} replacement(s))"


_USE_A_RANGE = "Use the view_range parameter to read specific line ranges, e.g. view_range: [1, 500]."
_CANNOT_EDIT = "The edit tool loads the whole file and cannot modify a file this large."


@contextmanager
def _opened(workspace: Workspace, full: str, flags: int, path: str) -> Iterator[tuple[int, int]]:
    """A regular file, open, and its size. Raises Refused, also for an OSError while it is open."""
    try:
        fd = workspace.open(full, flags, make=bool(flags & os.O_CREAT))
        try:
            yield fd, regular(fd, path).st_size
        finally:
            os.close(fd)
    except OSError as error:
        folder = error.errno == errno.EISDIR and not flags & os.O_CREAT
        raise Refused(f"{path}: {'not a regular file' if folder else reason(error)}") from error


def _whole(fd: int, size: int, limit: int) -> tuple[bytes, int]:
    """The bytes of a file up to a limit, and how many it has: it may grow while it is read."""
    data = bytearray()
    while size <= limit and len(data) <= limit and (chunk := os.read(fd, CHUNK)):
        data += chunk
    return bytes(data), max(size, len(data))


def _whole_text(fd: int, size: int, path: str, advice: str) -> bytes:
    data, size = _whole(fd, size, MOST_TEXT)
    if size > MOST_TEXT:
        raise Refused(f"{path} is {size} bytes, exceeds {MOST_TEXT}-byte limit. {advice}")
    return data


def _text(data: bytes, path: str) -> str:
    """The text, in which what is of another encoding is replaced; with a NUL in it, it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        if b"\0" in data:
            raise Refused(
                f"{path}: not valid UTF-8 text (binary files are only supported for image/PDF extensions)"
            ) from None
        return data.decode(errors="replace")


def _lines(fd: int, path: str, first: int, last: int) -> bytes:
    """Lines `first` to `last`, from 1; a `last` of 0 or less is the end of the file. Holds no more than the limit."""
    begin, end = max(0, first - 1), last if last > 0 else sys.maxsize
    taken, line = bytearray(), 0
    while line < end and begin < end and (chunk := os.read(fd, CHUNK)):
        if line + (count := chunk.count(b"\n")) < begin:
            line += count
            continue
        at = 0
        while at < len(chunk) and line < end:
            newline = chunk.find(b"\n", at)
            stop = len(chunk) if newline < 0 else newline
            if line >= begin:
                taken += chunk[at:stop]
                if newline >= 0 and line + 1 < end:
                    taken += b"\n"
                if len(taken) > MOST_TEXT:
                    raise _too_many(path, first, last, begin, end)
            line += newline >= 0
            at = stop + 1
    return bytes(taken)


def _too_many(path: str, first: int, last: int, begin: int, end: int) -> Refused:
    if end - begin == 1:
        return Refused(
            f"line {end} of {path} alone exceeds {MOST_TEXT}-byte limit. "
            "The read tool cannot return part of a line, so view_range cannot narrow this further."
        )
    return Refused(
        f"view_range [{first}, {last}] of {path} exceeds {MOST_TEXT}-byte limit. "
        "Narrow the view_range to read a smaller portion."
    )


def _base64(fd: int, size: int, media: str, path: str) -> str:
    limit = MOST_PDF if media == "application/pdf" else MOST_IMAGE
    data, size = _whole(fd, size, limit)
    if size > limit:
        raise Refused(f"{path} is {size} bytes, exceeds {limit}-byte limit for image/PDF files.")
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _encoded(text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Refused(f"{name} is no valid Unicode: it holds half of a surrogate pair") from None


def _put(fd: int, data: bytes) -> None:
    """Make these the bytes of an open file. Its room is claimed first: on a full disk nothing is lost."""
    if data:
        try:
            os.posix_fallocate(fd, 0, len(data))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot claim
                raise
    at = 0
    while at < len(data):
        at += os.pwrite(fd, data[at : at + (1 << 20)], at)
    os.ftruncate(fd, len(data))
