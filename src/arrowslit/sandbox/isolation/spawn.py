"""Spawner: the worker's side of the warden, which starts sandboxes and cleans up after them."""

from __future__ import annotations

import array
import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from arrowslit.sandbox.isolation import warden
from arrowslit.sandbox.isolation.cgroups import Group

logger = logging.getLogger(__name__)

EXIT_LIMIT = 10.0  # seconds until the warden has cleaned up and ended
WITH_THE_WARDEN = -9  # how sandboxes ended whose warden did: its death is theirs


class Spawner:
    """Starts sandboxes through a warden of its own. Entered before the first; when it is left, all have ended."""

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python
        self._ended: dict[str, asyncio.Future[int]] = {}

    async def __aenter__(self) -> Self:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._warden = subprocess.Popen(  # noqa: ASYNC220 a millisecond, once
                (self._python, "-I", "-S", str(Path(warden.__file__)), str(theirs.fileno())),
                env={},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        ours.setblocking(False)
        self._socket = ours
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ours.fileno(), self._receive)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lost()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._warden.wait, EXIT_LIMIT)

    @property
    def alive(self) -> bool:
        """Whether there is a warden."""
        return self._socket.fileno() >= 0

    def start(
        self,
        identity: str,
        argv: Sequence[str],
        files: Mapping[int, int],
        stderr: int,
        *,
        uid: int | None = None,
        groups: Sequence[Group] = (),
        cpus: Sequence[int] | None = None,
    ) -> asyncio.Future[int]:
        """Start bubblewrap. `files` are ours by the number they are to have in it, `cpus` the processors to stay on.

        The result comes when it has ended and its groups are removed: its status, 125 if it could not be started.
        Raises OSError.
        """
        message = {
            "start": identity,
            "argv": list(argv),
            "uid": uid,
            "cpus": cpus,
            "groups": [{"path": str(group.path), "set": dict(group.values)} for group in groups],
            "fds": list(files),
        }
        rights = array.array("i", [*files.values(), stderr])
        self._socket.sendmsg([json.dumps(message).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights.tobytes())])
        ended = self._ended[identity] = self._loop.create_future()
        return ended

    def end(self, identity: str) -> None:
        """Kill a sandbox. Its future then gets its result."""
        with suppress(OSError):  # the warden is gone, and with it the sandbox
            self._socket.send(json.dumps({"end": identity}).encode())

    def _receive(self) -> None:
        try:
            data = self._socket.recv(warden.PACKET)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            logger.error("the warden is gone, and all sandboxes with it")
            self._lost()
            return
        message = json.loads(data)
        if message["left"]:
            logger.error("could not be removed: %s", ", ".join(message["left"]))
        ended = self._ended.pop(message["ended"], None)
        if ended is not None and not ended.done():
            ended.set_result(message["status"])

    def _lost(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        for ended in self._ended.values():
            if not ended.done():
                ended.set_result(WITH_THE_WARDEN)
        self._ended.clear()


def memory_file(content: bytes) -> int:
    """An open file with this content, at its beginning, that lies nowhere."""
    fd = os.memfd_create("arrowslit", os.MFD_CLOEXEC)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
