"""Files of lines that somebody writes while a test reads them: logs of servers, ledgers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def whole_lines(path: Path) -> list[bytes]:
    """The lines so far, without their ends. The last one, if it has no end yet, is none; nor has a missing file any."""
    if not path.exists():
        return []
    return path.read_bytes().split(b"\n")[:-1]


def records(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """What the lines of all these files say, which are JSON."""
    return [json.loads(line) for path in paths for line in whole_lines(path)]
