"""SessionFiles: what a session's sandbox is given when it opens and later, and what its code leaves in `outputs`, sent
as soon as a call has made it. The port Shelf: where the files of a session lie, at the server.

Nothing here ends a session: what cannot be carried is recorded, and said to the agent.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from arrowslit.errors import Error
from arrowslit.file import MOST_BYTES, SESSION_FILES, Purpose, check_path
from arrowslit.sandbox.carrier import Carrier, NotCarried
from arrowslit.sandbox.isolation.isolation import Sandbox
from arrowslit.sandbox.journal import Carried, Journal, Taking
from arrowslit.sandbox.tools.inside.carry import OUTPUTS

log = logging.getLogger(__name__)

SECONDS = 120.0  # for all files of one call; what is not carried by then has another chance at the next
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MOST_NOTES = 10  # in one answer
NO_FILES = "this server keeps no files"
GIVEN_UP = "not sent within the time that there is for it"


@dataclass(frozen=True, slots=True)
class Shelved:
    """One file as the server has it; see `arrowslit.file.File`."""

    id: str
    name: str
    purpose: Purpose
    size: int
    sha256: str


class Shelf(Protocol):
    """The files of one session at the server.

    All raise Error: a retryable one while the server has trouble, `not_supported` if it keeps no files, another for
    what it refuses.
    """

    async def list(self) -> Sequence[Shelved]:
        """All of them, oldest first."""
        ...

    async def read(self, file_id: str, size: int) -> bytes:
        """What is in one, which was said to have `size` bytes: no more of it than that."""
        ...

    async def put(self, name: str, content: bytes) -> str:
        """Keep an output, in the place of one that has this name. Its id."""
        ...


@dataclass(slots=True)
class _Seen:
    """What is known of the sandbox that is open. `empty`: earlier outputs of the session are not back yet. `placed`:
    ids that were brought in, or never will be. `stamps` by the name of an output what it was like when it was last
    looked at, `sums` the SHA-256 that the server has of it. `said`: what the agent was told.
    """

    empty: bool = True
    placed: set[str] = field(default_factory=set)
    stamps: dict[str, str] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)


class SessionFiles:
    """For one delivery of a session. A call that finds another at work waits for it."""

    def __init__(self, shelf: Shelf, journal: Journal, taking: Taking) -> None:
        self._shelf = shelf
        self._journal = journal
        self._taking = taking
        self._seen = _Seen()
        self._shut: str | None = None  # why this delivery's credential opens no files
        self._turn = asyncio.Lock()

    def begin(self) -> None:
        """A new sandbox was opened: there is nothing in it."""
        self._seen = _Seen()

    async def bring(self, sandbox: Sandbox) -> Sequence[str]:
        """Place what has come for the session since this was last called, and in a new sandbox its earlier outputs;
        sentences for the agent about what is not there. Raises Error `sandbox_ended`.
        """
        if not self._taking.taken or self._shut is not None:
            return ()
        notes: list[str] = []
        async with self._turn:
            try:
                async with asyncio.timeout(SECONDS):
                    for each in await self._shelf.list():
                        wanted = each.purpose is Purpose.INPUT or self._seen.empty
                        if wanted and each.id not in self._seen.placed:
                            notes += await self._place(Carrier(sandbox), each)
                    self._seen.empty = False
            except TimeoutError:
                notes += self._once("files: not all inputs are here yet; they took too long")
            except Error as error:
                if error.code in ("unauthenticated", "forbidden"):  # nobody can know whether the session has any
                    self._shut = error.message
                    log.error("files are neither brought nor sent: %s", error.message)
                else:
                    notes += self._trouble("the session's inputs cannot be looked up", error)
        return notes

    async def take(self, sandbox: Sandbox) -> Sequence[str]:
        """Send what is new in OUTPUTS; sentences for the agent about what is not sent. Raises Error `sandbox_ended`."""
        notes: list[str] = []
        async with self._turn:
            carrier = Carrier(sandbox)
            try:
                async with asyncio.timeout(SECONDS):
                    found = await carrier.outputs()
                    for name in found.others:
                        notes += self._once(f"outputs/{_shown(name)} is not sent: it is no plain file")
                    for name, size, stamp in found.files:
                        if self._seen.stamps.get(name) != stamp:
                            notes += await self._send(carrier, name, size, stamp)
                    if found.more:
                        notes += self._once(f"only the first {SESSION_FILES} files of outputs are sent")
            except TimeoutError:
                notes += self._once(f"outputs: {GIVEN_UP}")
            except NotCarried as reason:
                notes += self._once(f"outputs cannot be looked at: {reason}")
            except Error as error:
                notes += self._trouble("outputs are not sent", error)
        return notes

    # ------------------------------------------------------------ in

    async def _place(self, carrier: Carrier, file: Shelved) -> list[str]:
        """One file into the workspace, unpacked as well if it is an archive."""
        name = file.name if file.purpose is Purpose.INPUT else f"{OUTPUTS}/{file.name}"
        unpacked, reason = None, None
        try:
            check_path(file.name)
            content = await self._shelf.read(file.id, file.size)
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise NotCarried("what arrived is not what it should be")
            await carrier.put(name, content)
            if file.purpose is Purpose.INPUT and (folder := unpacked_name(name)):
                unpacked = await self._unpack(carrier, folder, content)
        except NotCarried as why:
            reason = str(why)
        except Error as error:
            if error.code == "sandbox_ended" or error.row.retryable:
                raise
            reason = error.message
        self._seen.placed.add(file.id)
        if file.purpose is Purpose.OUTPUT and reason is None:
            self._seen.sums[file.name] = file.sha256
        await self._journal.carried(
            Carried(
                inward=True,
                file=file.id,
                size=file.size,
                sha256=file.sha256,
                unpacked=unpacked if isinstance(unpacked, int) else None,
                reason=reason or (unpacked if isinstance(unpacked, str) else None),
            )
        )
        if reason is not None:
            return [f"{_shown(name)} is not here: {reason}"]
        return [f"{_shown(name)} is here, but not unpacked: {unpacked}"] if isinstance(unpacked, str) else []

    async def _unpack(self, carrier: Carrier, folder: str, content: bytes) -> int | str:
        """How many files that made, or why it made none."""
        try:
            return await carrier.unpack(folder, content)
        except NotCarried as reason:
            return str(reason)

    # ------------------------------------------------------------ out

    async def _send(self, carrier: Carrier, name: str, size: int, stamp: str) -> list[str]:
        """One output to the server, if it is not there already. What may pass is tried again at the next call."""
        seen, digest, stored, reason = self._seen, None, None, None
        try:
            check_path(name)
            if size > MOST_BYTES:
                raise NotCarried(f"a file has at most {MOST_BYTES >> 20} MiB")
            content = await carrier.get(name, size)
            size, digest = len(content), hashlib.sha256(content).hexdigest()
            if seen.sums.get(name) == digest:
                seen.stamps[name] = stamp
                return []
            if self._shut is not None:
                raise NotCarried(self._shut)
            if self._taking.taken:
                stored = await self._shelf.put(name, content)
        except NotCarried as why:
            reason = str(why)
        except Error as error:
            if error.code == "sandbox_ended":
                raise
            if error.row.retryable:
                return self._trouble(f"outputs/{_shown(name)} is not sent yet", error)
            if error.code == "not_supported":
                self._taking.refused()
            else:
                reason = error.message
        seen.stamps[name] = stamp
        if digest is not None and stored is not None:
            seen.sums[name] = digest
            seen.placed.add(stored)
        said = NO_FILES if stored is None and reason is None else reason
        await self._journal.carried(Carried(inward=False, file=stored, size=size, sha256=digest, reason=said))
        if reason is not None:
            return [f"outputs/{_shown(name)} is not sent: {reason}"]
        return [] if stored is not None else self._once(f"outputs stay here: {NO_FILES}")

    # ------------------------------------------------------------ what is said

    def _trouble(self, what: str, error: Error) -> list[str]:
        if error.code == "sandbox_ended":
            raise error
        if error.code == "not_supported":
            self._taking.refused()
            return []
        log.warning("%s: %s", what, error.message)
        return self._once(f"{what}: {error.message}")

    def _once(self, note: str) -> list[str]:
        """The note, unless it was given before in this sandbox."""
        if note in self._seen.said:
            return []
        self._seen.said.add(note)
        return [note]


def unpacked_name(name: str) -> str | None:
    """PURE: the folder that an archive is unpacked into, its name without the suffix; None if that names no archive."""
    for suffix in sorted(ARCHIVES, key=len, reverse=True):
        if name.lower().endswith(suffix) and name[: -len(suffix)].rpartition("/")[2]:
            return name[: -len(suffix)]
    return None


def as_text(notes: Sequence[str]) -> str:
    """PURE: what is added to an answer."""
    shown = notes[:MOST_NOTES]
    more = [f"and {len(notes) - len(shown)} more like that"] if len(notes) > len(shown) else []
    return "\n".join(f"[{each}]" for each in (*shown, *more))


def _shown(name: str) -> str:
    """A name for people and models: on one line, and without anything that a terminal obeys."""
    return name if name.isprintable() and len(name) <= 200 else ascii(name[:200])
