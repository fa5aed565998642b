"""The state folder: keys and other small files that are made once, for their owner's eyes only."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.errors import Error
from arrowslit.ids import RandomBytes


def folder(path: Path) -> Path:
    """Make a folder of mode 0700, or check that the one that is there is ours. Raises Error `state_unusable`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = path.stat()
    except OSError as error:
        raise Error(
            "state_unusable", f"{path} cannot be used: {error.strerror}", hint="choose another folder with --state"
        ) from error
    if held.st_uid != os.geteuid():
        raise Error("state_unusable", f"{path} belongs to somebody else", hint="choose another folder with --state")
    return path


@contextlib.contextmanager
def lock(path: Path, what: str = "connector") -> Iterator[None]:
    """Hold the folder for one process, until the block ends or the process does. Raises Error `state_unusable`."""
    try:
        held = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Error("state_unusable", f"{path} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            hint = "stop that one first, or give this one a folder of its own with --state DIR, as each replica has"
            raise Error("state_unusable", f"another {what} runs with the state in {path}", hint=hint) from error
        yield
    finally:
        os.close(held)


def secret(path: Path, random: RandomBytes, size: int = 32) -> bytes:
    """The secret bytes in a file (hex, 0600), made at the first start. Raises Error `state_unusable`."""
    held = _held(path, size)
    if held is None:
        held = random(size)
        write(path, held.hex() + "\n")
    return held


def _held(path: Path, size: int = 32) -> bytes | None:
    """The secret bytes in a file, None if there is no such file."""
    try:
        text = path.read_text()
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Error("state_unusable", f"{path} cannot be read: {error}") from error
    if mode & 0o077:
        raise Error("state_unusable", f"{path} can be read by others", hint=f"run: chmod 600 {path}")
    try:
        held = bytes.fromhex(text.strip())
    except ValueError:
        held = b""
    if len(held) != size:
        raise Error("state_unusable", f"{path} does not hold a key", hint="restore it from a backup, or remove it")
    return held


def signing_key(path: Path, random: RandomBytes) -> Ed25519PrivateKey:
    """The Ed25519 key in a file, made at the first start."""
    return Ed25519PrivateKey.from_private_bytes(secret(path, random))


def held_signing_key(path: Path) -> Ed25519PrivateKey | None:
    """The Ed25519 key in a file, None if there is no such file. Raises Error `state_unusable`."""
    held = _held(path)
    return None if held is None else Ed25519PrivateKey.from_private_bytes(held)


def write(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all. Raises Error `state_unusable`."""
    new = path.with_name(path.name + ".new")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise Error("state_unusable", f"{path} cannot be written: {error.strerror}") from error
