"""Watches a whole run of tests for secrets where none belongs: in lines that are logged, in commands that are started.

What was written to files (logs of processes, ledgers) is looked at when all is over, by `left_behind`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from arrowslit.credential import kind_of

_LIKE_ONE = re.compile(r"asl_[a-z]{2,4}_[A-Za-z0-9]{40,60}")
_OURS = re.compile(r"'-m', 'arrowslit'|bin/(?:arrowslit|claude-tunnel)'")

seen: list[str] = []
"""Where a secret was met, and how it begins."""


def secrets_in(text: str) -> list[str]:
    """Our credentials in a text: those with a right checksum, so that what only looks like one does not count."""
    return [each for each in _LIKE_ONE.findall(text) if kind_of(each)] if "asl_" in text else []


def watch() -> None:
    """Begin. It ends with the process."""
    logging.getLogger().addHandler(_Lines())
    sys.addaudithook(_commands)


def left_behind(folder: Path) -> Iterator[str]:
    """The files below a folder that are logs or ledgers and hold a secret."""
    for path in folder.rglob("*"):
        kept = path.name in ("stderr", "log") or path.suffix == ".log" or path.parent.name == "ledger"
        if kept and path.is_file() and (found := secrets_in(path.read_text(errors="replace"))):
            yield f"{path.relative_to(folder)}: {found[0][:12]}…"


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        seen.extend(f"a line of {record.name}: {found[:12]}…" for found in secrets_in(self.format(record)))


def _commands(event: str, arguments: tuple[object, ...]) -> None:
    """Of our own processes: some clients of others can be given a header only in their arguments."""
    if event == "subprocess.Popen" and _OURS.search(command := str(arguments[1])):
        seen.extend(f"the title of {arguments[0]}: {found[:12]}…" for found in secrets_in(command))
