"""Starting `targets/plain.py`, and reading what it wrote down."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.lines import whole_lines

SERVER = Path(__file__).parent / "targets" / "plain.py"


@dataclass(frozen=True, slots=True)
class Heard:
    """One thing that the server heard; `line` and `headers` are empty on stdio."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The body as JSON; nothing for an empty one."""
        return dict(json.loads(self.body)) if self.body else {}

    @property
    def meta(self) -> dict[str, Any]:
        """Its `_meta`."""
        return dict(self.message.get("params", {}).get("_meta", {}))

    def header(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name]


class Log:
    """What a server wrote down, whole and since the last `clear`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._from = 0

    def clear(self) -> None:
        """Look only at what comes from here on."""
        self._from = len(self._lines())

    def heard(self, method: str | None = None) -> list[Heard]:
        """Everything, or the messages of one method."""
        found = []
        for line in self._lines()[self._from :]:
            said = json.loads(line)
            headers = [(name, value.strip()) for name, _, value in (each.partition(":") for each in said["headers"])]
            found.append(Heard(said["line"], headers, said["body"].encode("latin-1")))
        return [each for each in found if method is None or each.message.get("method") == method]

    @property
    def calls(self) -> list[Heard]:
        """The calls of tools."""
        return self.heard("tools/call")

    def _lines(self) -> list[str]:
        return [line.decode() for line in whole_lines(self.path)]


def command(kind: str, **flags: object) -> list[str]:
    """The command; `kind` is `stdio` or `http`."""
    return [sys.executable, "-I", str(SERVER), kind, *(f"{name}={value}" for name, value in flags.items())]


def over_stdio(**flags: object) -> str:
    """What `--target` is to be."""
    return f"stdio:{shlex.join(command('stdio', **flags))}"


@contextmanager
def over_http(**flags: object) -> Iterator[str]:
    """Run it on a free port of loopback; gives what `--target` is to be."""
    with subprocess.Popen(command("http", **flags), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url, "it ended before it listened"
            yield url
        finally:
            process.kill()


@contextmanager
def target(kind: str, **flags: object) -> Iterator[str]:
    """The same for either kind."""
    if kind == "stdio":
        yield over_stdio(**flags)
    else:
        with over_http(**flags) as url:
            yield url
