"""The state folder: keys and other small files that are made once, for their owner's eyes only."""

from __future__ import annotations

import os
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


def secret(path: Path, random: RandomBytes, size: int = 32) -> bytes:
    """The secret bytes in a file (hex, 0600), made at the first start. Raises Error `state_unusable`."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        made = random(size)
        write(path, made.hex() + "\n")
        return made
    except OSError as error:
        raise Error("state_unusable", f"{path} cannot be read: {error.strerror}") from error
    if path.stat().st_mode & 0o077:
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
