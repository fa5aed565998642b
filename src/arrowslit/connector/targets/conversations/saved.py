"""Saved: what is kept of legacy sessions on disk, so that they outlive their process and the connector's."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from arrowslit.errors import Error

logger = logging.getLogger(__name__)

TOO_OLD = 24 * 3600.0
"""Seconds without use after which a session is forgotten. Clients keep one for as long as they run."""

TOUCH_EVERY = 60.0  # seconds; how exactly "without use" is known after a restart

_NAME = re.compile(r"[0-9a-f]{32}\.json")


@dataclass(frozen=True, slots=True)
class SavedSession:
    """`params` are those of the client's `initialize`, as JSON. `used_at` is in Unix seconds."""

    session_id: str
    params: bytes
    used_at: float


class SavedSessions:
    """One file per session, readable by its owner only, last used when it was last modified."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, now: float) -> list[SavedSession]:
        """All that are not too old; the others are removed. Raises Error `state_unusable`."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = [self._read(path) for path in sorted(self._folder.iterdir()) if _NAME.fullmatch(path.name)]
        except OSError as error:
            raise Error(
                "state_unusable",
                f"the folder for MCP sessions cannot be used: {error}",
                hint=f"make {self._folder} a folder that this user may write to, or name another with --state",
            ) from None
        for old in found:
            if old.used_at < now - TOO_OLD:
                self.remove(old.session_id)
        return [session for session in found if session.used_at >= now - TOO_OLD and session.params]

    def save(self, session: SavedSession) -> None:
        """Keep a session. Failing that it is only logged: the session works, until its process or ours ends."""
        path = self._path(session.session_id)
        fresh = path.with_suffix(".new")
        try:
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(session.params)
            os.utime(fresh, (session.used_at, session.used_at))
            fresh.replace(path)
        except OSError as error:
            logger.warning("an MCP session could not be saved, and will not survive a restart: %s", error)

    def touch(self, session_id: str, now: float) -> None:
        """Note that a session was used."""
        try:
            os.utime(self._path(session_id), (now, now))
        except OSError as error:
            logger.debug("an MCP session could not be touched: %s", error)

    def remove(self, session_id: str) -> None:
        """Forget a session."""
        try:
            self._path(session_id).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("an MCP session could not be removed: %s", error)

    def _path(self, session_id: str) -> Path:
        return self._folder / f"{session_id}.json"

    def _read(self, path: Path) -> SavedSession:
        """A saved session; one that cannot be read as JSON has no params."""
        params = path.read_bytes()
        try:
            msgspec.json.decode(params, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            params = b""
        return SavedSession(path.stem, params, path.stat().st_mtime)
