"""Transcript: what a page of the documentation shows in terminals, typed and compared.

A block marked `console` belongs to the terminal that its first line names (`# terminal 2`), else to the one before;
what is shown for `# every terminal` is typed first in each. `$ ` begins a command, `> ` continues it, `^C` ends what
runs, and below stands what they print. `…` there is anything; in a command it is copied from what was printed last.
"""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil

from tests.harness import until
from tests.support import processes

EVERY = "every terminal"
STAYS = re.compile(r"arrowslit (serve|connect)\b|python -m arrowslit\.demo\.database")
PATIENCE = 60.0  # seconds; one or two are usual

_BLOCK = re.compile(r"^```console\n(?:# (terminal \d|every terminal)[^\n]*\n)?(.*?)^```$", re.DOTALL | re.MULTILINE)
_ENTRY = re.compile(r"^(\$ .*\n(?:> .*\n)*|\^C\n)((?:(?!\$ |\^C\n).*\n)*)", re.MULTILINE)
_MARK = re.compile("\x01[0-9]+\x01")  # what our shell prints when a command has ended: which one it was


class Entry(NamedTuple):
    """What is typed in a terminal, and what is printed then."""

    terminal: str
    typed: str
    printed: str


def entries(page: str) -> Iterator[Entry]:
    """What a page in Markdown shows, from top to bottom."""
    terminal = "terminal 1"
    for named, block in _BLOCK.findall(page):
        terminal = named or terminal
        for typed, printed in _ENTRY.findall(block):
            yield Entry(terminal, re.sub(r"^[$>] ", "", typed, flags=re.MULTILINE).strip(), printed.strip())


def play(page: str, folder: Path, environment: Mapping[str, str], prelude: str = "") -> int:
    """Type all that `page` shows, in shells that start in `folder`; returns how many entries there were.

    `prelude` is run first in each shell, and shown nowhere. Fails where something else is printed than the page shows.
    """
    shown = list(entries(page))
    first = [entry for entry in shown if entry.terminal == EVERY]
    printed = ""
    with ExitStack() as opened:
        terminals: dict[str, Terminal] = {}
        for entry in shown:
            if entry.terminal == EVERY:
                continue
            if entry.terminal not in terminals:
                new = terminals[entry.terminal] = opened.enter_context(Terminal(folder, environment))
                for each in (Entry(EVERY, prelude, ""), *first):
                    new.type(each, each.typed)
            printed += "\n" + terminals[entry.terminal].type(entry, _copied(entry.typed, printed))
    return len(shown)


class Terminal:
    """A shell, to be closed by a `with`."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._screen = ""
        self._count = 0  # of commands
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (psutil.Process(self._shell.pid), *processes.below(self._shell.pid)):
            processes.kill(process)
        self._reader.join()
        with self._shell:  # closes the pipes
            pass

    def _read(self) -> None:
        assert self._shell.stdout is not None
        while character := self._shell.stdout.read(1):
            self._screen += character

    def type(self, entry: Entry, command: str) -> str:
        """Type `command` for an entry, wait until it ends, or stays and has printed what it has to; returns that."""
        before = len(self._screen)

        def said() -> str:
            return "\n".join(map(str.rstrip, _MARK.sub("", self._screen[before:]).strip().splitlines()))

        def right() -> bool:
            return re.fullmatch(_pattern(entry.printed, ".*"), said(), re.DOTALL) is not None

        def over() -> bool:
            ended = f"\x01{self._count}\x01" in self._screen
            return ended or (bool(STAYS.search(command)) and right())

        if command == "^C":
            shell = psutil.Process(self._shell.pid)
            processes.of_each(shell.children(), lambda child: child.send_signal(signal.SIGINT))
        else:
            assert self._shell.stdin is not None
            self._count += 1
            status = '(exit "${status:-0}")'  # of the last command, for one that shows `$?`
            mark = f"status=$?; printf '\\001{self._count}\\001'"
            self._shell.stdin.write(f"{status}; {{ {command or ':'}\n}} </dev/null; {mark}\n")
            self._shell.stdin.flush()
        try:
            until(over, f"`{entry.typed}` ended, or printed what it should", patience=PATIENCE)
        except AssertionError as waited:
            raise AssertionError(f"{waited}\n{said()}\n\nand not\n{entry.printed}") from None
        assert right(), f"`{entry.typed}` prints\n{said()}\n\nand not\n{entry.printed}"
        return said()


def _copied(command: str, printed: str) -> str:
    """The words of a command with `…` in them, as they were printed last."""

    def copy(word: re.Match[str]) -> str:
        found = re.findall(r"(?<!\S)" + _pattern(word[0], r"[^\s,]+") + r"(?![^\s,])", printed)
        assert found, f"nothing like {word[0]} was printed"
        return str(found[-1])

    return re.sub(r"\S*…\S*", copy, command)


def _pattern(text: str, anything: str) -> str:
    return anything.join(map(re.escape, text.split("…")))
