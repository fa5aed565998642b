"""Answer requests for file tools until there are no more: the last of the files that are sent inside.

A message is its length in four bytes, the highest first, and JSON. To each request come two with its number: that it
was taken, so that whoever asked knows whether a helper that died had begun; then {"text"}, {"media"} or {"error"}, with
{"timed_out"} where that is why.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import contextmanager

from arrowslit.sandbox.tools.inside.files import edit, read, write
from arrowslit.sandbox.tools.inside.search import glob, grep
from arrowslit.sandbox.tools.inside.workspace import Refused, Workspace, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

TOOLS: dict[str, Callable[..., object]] = {"read": read, "write": write, "edit": edit, "glob": glob, "grep": grep}
LOOKS = ("read", "glob", "grep")  # may be broken off anywhere
SURROGATE = re.compile("[\ud800-\udfff]")
TICK = 0.1  # seconds: if the first signal is lost in a place that swallows exceptions, the next is not


class Expired(BaseException):
    """The time for one request is over. No `except Exception` catches it."""


def serve() -> None:
    """Answer what comes in by what goes out, in the folder that this was started in."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    workspace = Workspace(os.getcwd())  # noqa: PTH109
    while (request := _take(source)) is not None:
        number = {"number": request.pop("number")}
        _put(sink, {**number, "taken": True})
        _put(sink, {**number, **answer(workspace, **request)})


def answer(workspace: Workspace, tool: str, arguments: dict[str, object], seconds: float) -> dict[str, object]:
    """What a tool says."""
    try:
        if tool in LOOKS:
            with _deadline(seconds):
                found = TOOLS[tool](workspace, **arguments)
        else:
            found = TOOLS[tool](workspace, **arguments)
    except Refused as refused:
        return {"error": f"{tool}: {refused}"}
    except Expired:
        return {"error": f"{tool}: timed out after {seconds:g}s", "timed_out": True}
    except MemoryError:
        return {"error": f"{tool}: out of memory"}
    except OSError as error:
        return {"error": f"{tool}: {reason(error)}"}
    return {"text": found} if isinstance(found, str) else {"media": found}


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise Expired when time is over, also out of a regular expression: it looks for signals as it goes."""
    armed = True

    def expire(_number: int, _frame: object) -> None:
        if armed:
            raise Expired

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds, TICK)
    try:
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def _take(source: BinaryIO) -> dict[str, Any] | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    request: dict[str, Any] = json.loads(source.read(int.from_bytes(head, "big")))
    return request


def _put(sink: BinaryIO, message: dict[str, object]) -> None:
    """A name that is no UTF-8, and half a surrogate pair, go out replaced."""
    data = SURROGATE.sub("\ufffd", json.dumps(message, ensure_ascii=False)).encode()
    sink.write(len(data).to_bytes(4, "big") + data)
    sink.flush()
