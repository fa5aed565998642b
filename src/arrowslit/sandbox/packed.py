"""What a tar or zip says that it holds, and what is in each entry, read so that no header makes the reader take more
memory or time than a bounded amount.

Like `archive.py` it runs inside a sandbox too: the standard library of Python 3.10 and later is all that it needs.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from arrowslit.sandbox.entries import MIB, Entry, Kind, Limits, Unsafe, shown

PIECE = 64 * 1024  # bytes; also what a header of a tar may have at most
OVERHEAD = 4096  # bytes of a tar for each entry, beside what is in it
MOST_TARGET = 1024  # bytes of a link
XZ_MEMORY = 96 * MIB  # what the best compression of xz needs, and half as much again

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    ValueError,
)


class Readable(Protocol):
    """Bytes that are read from the first to the last."""

    def read(self, size: int, /) -> bytes:
        """As many as that, fewer only at the end."""
        ...


class Source(Protocol):
    """An archive that can be read from its beginning again and again."""

    def entries(self) -> Iterator[Entry]:
        """What it says that it holds."""
        ...

    def contents(self) -> Iterator[tuple[Entry, Readable | None]]:
        """The same, with what is in each file."""
        ...


def source(file: IO[bytes], limits: Limits) -> Source:
    """By the first bytes."""
    file.seek(0)
    head = file.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _Zip(file, limits)
    for magic, unpacked in _PACKED.items():
        if head.startswith(magic):
            return _Tar(file, unpacked, limits)
    if head[257:262] == b"ustar":
        return _Tar(file, lambda file: file, limits)
    raise Unsafe("it is neither a zip nor a tar")


@contextmanager
def readable() -> Iterator[None]:
    """Whatever a library says about bytes that are no archive becomes Unsafe."""
    try:
        yield
    except Unsafe:
        raise
    except _DAMAGED as error:
        raise Unsafe(f"it is damaged, or made in a way that is not known here ({type(error).__name__})") from error


# ------------------------------------------------------------ zip


class _Zip:
    """A zip. Stored and deflated entries only: what other methods need of memory, their own headers say."""

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        self._zip = zipfile.ZipFile(_InPieces(file, max(4 * PIECE, 256 * limits.entries)))

    def entries(self) -> Iterator[Entry]:
        for info in self._zip.infolist():
            yield self._entry(info)

    def contents(self) -> Iterator[tuple[Entry, Readable | None]]:
        for info in self._zip.infolist():
            entry = self._entry(info)
            if entry.kind == "file":
                with self._zip.open(info) as content:
                    yield entry, content
            else:
                yield entry, None

    def _entry(self, info: zipfile.ZipInfo) -> Entry:
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unsafe(f"{shown(info.filename)} is encrypted, or packed in an unusual way")
        mode = info.external_attr >> 16
        kind = "folder" if info.is_dir() else _ZIP_KINDS.get(stat.S_IFMT(mode), "special")
        target = ""
        if kind == "symlink":
            with self._zip.open(info) as content:
                target = content.read(MOST_TARGET + 1).decode()
        return Entry(info.orig_filename, kind, info.file_size, bool(mode & stat.S_IXUSR), target)


_ZIP_KINDS: dict[int, Kind] = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symlink"}


class _InPieces(io.RawIOBase):
    """A file of which nobody reads more than `most` at once: a zip's list is one read, of a length that it says."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._most = file, most

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._most + 1 if size is None or size < 0 else size
        data = self._file.read(min(wanted, self._most + 1))
        if len(data) > self._most:
            raise Unsafe("its list of entries is too long")
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


# ------------------------------------------------------------ tar


class _Tar:
    """A tar, read forward, unpacked by `unpacked` if it is packed."""

    def __init__(self, file: IO[bytes], unpacked: Callable[[IO[bytes]], Readable], limits: Limits) -> None:
        self._file, self._unpacked = file, unpacked
        self._most = limits.total + (limits.entries + 1) * OVERHEAD

    def entries(self) -> Iterator[Entry]:
        for _, member in self._members():
            yield _tar_entry(member)

    def contents(self) -> Iterator[tuple[Entry, Readable | None]]:
        for tar, member in self._members():
            entry = _tar_entry(member)
            yield entry, tar.extractfile(member) if entry.kind == "file" else None

    def _members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        self._file.seek(0)
        forward = _Forward(self._unpacked(self._file), self._most)
        with tarfile.TarFile(fileobj=forward, mode="r", errors="surrogateescape") as tar:
            for member in tar:
                yield tar, member
        if len(forward.last) not in (0, tarfile.BLOCKSIZE) or any(forward.last):
            raise Unsafe("it ends in the middle of an entry")  # which `tarfile` takes for its end


def _tar_entry(member: tarfile.TarInfo) -> Entry:
    kind: Kind = "special"
    if member.issparse():
        kind = "sparse"
    elif member.isreg():
        kind = "file"
    elif member.isdir():
        kind = "folder"
    elif member.issym():
        kind = "symlink"
    elif member.islnk():
        kind = "hardlink"
    size = member.size if kind == "file" else 0
    return Entry(member.name, kind, size, bool(member.mode & stat.S_IXUSR), member.linkname)


class _Forward(io.RawIOBase):
    """Bytes that are read once, from the first to the last, in pieces, and not beyond `most`: an entry that says that
    it lies further back, has a header of a gigabyte, or is followed by zeros for ever, comes to an end here.
    """

    def __init__(self, stream: Readable, most: int) -> None:
        self.last = b""  # what was read last
        self._stream, self._most, self._at = stream, most, 0

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= PIECE:
            raise Unsafe("it has a header that is too long")
        try:
            self.last = self._stream.read(size)
        except OSError as error:  # what gzip and bzip2 say of bytes that are not theirs
            raise Unsafe("it is damaged") from error
        self._at += len(self.last)
        if self._at > self._most:
            raise Unsafe(f"it becomes more than {self._most} bytes")
        return self.last

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._at:
            raise Unsafe("it has an entry that lies in another")
        while self._at < offset and self.read(min(PIECE, offset - self._at)):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True


class _Xz(io.RawIOBase):
    """What is packed in one stream of xz, whose header does not say how much memory is taken."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._xz = lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = b""
        while not data and not self._xz.eof:
            packed = self._file.read(PIECE) if self._xz.needs_input else b""
            if self._xz.needs_input and not packed:
                raise EOFError
            data = self._xz.decompress(packed, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _gzip(file: IO[bytes]) -> Readable:
    return gzip.GzipFile(fileobj=file)


def _xz(file: IO[bytes]) -> Readable:
    return io.BufferedReader(_Xz(file), PIECE)


_PACKED: dict[bytes, Callable[[IO[bytes]], Readable]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": _xz,
}
