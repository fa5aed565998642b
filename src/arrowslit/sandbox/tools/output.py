"""PURE: what a shell prints for one command: the last of it, up to the mark that says that the command has ended."""

from __future__ import annotations

import re
import shlex

MOST_OUTPUT = 100 * 1024  # bytes, the last ones
SLACK = 64 * 1024  # bytes that may pile up before what is too much is cut off
ESCAPES = re.compile(
    r"\x1b(?:\[[0-9;:<=>?]*[ -/]*[@-~]"  # CSI: colours, moves
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC and other strings: titles, links, the clipboard
    r"|[ -/]*[0-~])"  # all others
)


BEFORE = "exec 250>&1\n"
"""What a shell reads before its first command: its output gets another number, which no command has."""


def script(command: str, mark: str) -> str:
    """What a shell reads to run a command and print the mark and the status behind it.

    The command is one word for `eval`, so that a quote or a bracket that nobody closes ends with it. Its input is
    empty; both its outputs are the shell's, also after a command like `exec >file`. What the shell itself says between
    commands, as by `set -x`, goes to its second output, to nobody.
    """
    run = f"eval {shlex.quote(command)} </dev/null >&250 2>&1 250>&-"
    return f"{run}\nbuiltin printf '\\n%s%d\\n' {mark} $? >&250\n"


class Tail:
    """The last of the output of a command that ends with `mark`, which nobody can guess."""

    def __init__(self, mark: str) -> None:
        self._end = re.compile(rb"\n" + re.escape(mark).encode() + rb"(\d+)\n")
        self._overlap = len(mark) + len("\n255\n")
        self._kept = bytearray()
        self._truncated = False
        self._ended = False

    def take(self, data: bytes) -> int | None:
        """A piece more. The status of the command if it has ended with it; what comes after that is nobody's."""
        start = max(0, len(self._kept) - self._overlap)
        self._kept += data
        end = self._end.search(self._kept, start)
        if end is not None:
            status = int(end[1])  # now: a match looks into the bytes that it was found in
            del self._kept[end.start() :]
            self._ended = True
            return status
        if len(self._kept) > MOST_OUTPUT + SLACK:
            self._cut(MOST_OUTPUT + self._overlap)
        return None

    def text(self) -> str:
        """What was printed, without the escape sequences of a terminal and the newlines at the end."""
        self._cut(MOST_OUTPUT)
        printed = ESCAPES.sub("", self._kept.decode(errors="replace"))
        printed = printed.rstrip("\n") if self._ended else printed.strip()
        return f"[output truncated]\n{printed}" if self._truncated else printed

    def _cut(self, most: int) -> None:
        if len(self._kept) > most:
            del self._kept[: len(self._kept) - most]
            self._truncated = True
