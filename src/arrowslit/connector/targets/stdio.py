"""The stdio target: a command of the local command line, run without a shell in a clean environment."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import Self

from arrowslit.connector.targets.processes.channel import Channel, Listener
from arrowslit.connector.targets.processes.crowd import Crowd, TooMany
from arrowslit.connector.targets.processes.process import Process
from arrowslit.connector.targets.processes.watchdog import Watchdog
from arrowslit.connector.targets.target import NotStarted
from arrowslit.errors import Error

log = logging.getLogger(__name__)

MOST_PROCESSES = 64  # tunnel.md, "Limits"

_INHERITED = frozenset({"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"})
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{2,}")


@dataclass(frozen=True, slots=True)
class Command:
    """What runs: arguments, the whole environment, and the names of variables that were there and are not passed."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    withheld: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The program, or the script that it runs."""
        script = next((part for part in self.argv[1:2] if part.endswith(".py")), self.argv[0])
        return PurePath(script).name


def read_command(text: str, *, python: str, environment: Mapping[str, str], pass_env: Sequence[str] = ()) -> Command:
    """The command in `stdio:…`, split as a shell would and run by none. One `.py` file alone is run by `python`.

    Of `environment` it sees what every program needs, and the variables named in `pass_env`. Raises Error
    `target_invalid`.
    """
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise Error("target_invalid", f"stdio:{text} cannot be split into words: {error}") from None
    if not argv or "\0" in text:
        raise Error("target_invalid", "stdio: names no command", hint="for example: --target stdio:./server.py")
    if len(argv) == 1 and argv[0].endswith(".py"):
        if not Path(argv[0]).is_file():
            raise Error("target_invalid", f"there is no file {argv[0]}", hint="name it relative to this folder")
        argv = (python, argv[0])
    missing = [name for name in pass_env if name not in environment]
    if missing:
        raise Error(
            "target_invalid",
            f"--pass-env names {', '.join(missing)}, which is not set here",
            hint="set it in the environment of this command, or leave the flag out",
        )
    passed = {
        name: value
        for name, value in environment.items()
        if name in _INHERITED or name.startswith("LC_") or name in pass_env
    }
    return Command(argv, passed, frozenset(environment) - frozenset(passed))


def runnable(command: Command) -> Command:
    """The command, if its program is there. Raises Error `target_invalid`."""
    program = command.argv[0]
    if shutil.which(program, path=command.environment.get("PATH")) is None:
        hint = "name it by its path, relative to the folder in which connect runs, or as PATH finds it"
        raise Error("target_invalid", f"there is no program {program!r}", hint=hint)
    return command


class Stdio:
    """A Program: starts the command as often as it is asked to, and lets none of its processes outlive it."""

    def __init__(self, command: Command, *, most: int = MOST_PROCESSES) -> None:
        self._command = command
        self._watchdog = Watchdog()
        self._processes = Crowd(most)
        self._opened = AsyncExitStack()

    @property
    def name(self) -> str:
        """Program: the name of the command."""
        return self._command.name

    @property
    def running(self) -> int:
        """Program: how many processes there are."""
        return len(self._processes)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._watchdog)
            await stack.enter_async_context(self._processes)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.__aexit__(None, None, None)

    async def start(self, listener: Listener) -> Channel:
        """Program: one more process."""
        process = Process(self.name, listener, self._watchdog)
        life = process.run(self._command.argv, self._command.environment)
        try:
            failure = await self._processes.start(process, life)
        except TooMany:
            raise TooMany(f"{self.name} runs {self._processes.most} times already, for as many sessions") from None
        if failure is not None:
            log.warning("%s cannot be run: %s", self._command.argv[0], failure)
            raise NotStarted(f"{self.name} cannot be run: {getattr(failure, 'strerror', None) or 'it is no program'}")
        return process

    def hint(self, last_words: str) -> str:
        """Program: name the variable that was probably missed, if its name is in the last words."""
        missed = [name for name in _VARIABLE.findall(last_words) if name in self._command.withheld]
        if missed:
            add = f"add --pass-env {missed[0]}, or name it under pass_env in a connector.toml"
            return f"{missed[0]} is set here and was not passed to the target: {add}"
        return (
            "run the command by hand to see why; as a target it gets a clean environment, "
            "and further variables only by name: --pass-env NAME, or pass_env in a connector.toml"
        )
