"""The log of `serve` and `connect`: one readable line a record on stderr, which no logged value can break or colour."""

from __future__ import annotations

import logging
import re
import sys
import time

from arrowslit.cli.speak import plain
from arrowslit.credential import CredentialKind

_SECRET = re.compile(rf"asl_({'|'.join(CredentialKind)})_[0-9A-Za-z]{{8,}}")


class OneLine(logging.Formatter):
    """`2026-11-22T10:00:00Z warning  the link is gone: connection lost`; a defect's traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Names the logger only where it is not ours. A credential that got here by mistake is cut."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        source = "" if record.name.startswith("arrowslit.") else f"{record.name}: "
        lines = [f"{when} {record.levelname.lower():8} {source}{plain(record.getMessage())}"]
        if record.exc_info:
            lines += [f"    {plain(line)}" for line in self.formatException(record.exc_info).splitlines()]
        return _SECRET.sub(r"asl_\1_…", "\n".join(lines))


def to_stderr() -> None:
    """Log to stderr from here on: warnings of libraries, and what ours have to say."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("arrowslit").setLevel(logging.INFO)
