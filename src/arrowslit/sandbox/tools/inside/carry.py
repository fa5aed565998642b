"""Carry files of the session into the workspace and out of it: one program for each, started by `carrier.py`.

What is said comes out as JSON, a file as its bytes. A refusal is a sentence and status 1.
"""

# No pathlib: it is ten milliseconds more for each file.
# ruff: noqa: PTH109, PTH208

from __future__ import annotations

import json
import os
import re
import stat
import sys

from arrowslit.sandbox.tools.inside.workspace import Refused, Workspace, reason, regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OUTPUTS = "outputs"  # below the workspace: what lies there leaves
MOST_FILES = 1000
MOST_DEPTH = 32
CHUNK = 1 << 20
SURROGATE = re.compile("[\ud800-\udfff]")


def put(workspace: Workspace, name: str) -> object:
    """Make what comes in a file of that name, in place of what was there."""
    fd = workspace.open(_full(workspace, name), os.O_WRONLY | os.O_CREAT, make=True)
    with os.fdopen(fd, "wb") as file:
        regular(fd, name)
        os.ftruncate(fd, 0)
        while data := sys.stdin.buffer.read(CHUNK):
            file.write(data)
    return {}


def unpack(workspace: Workspace, name: str) -> object:
    """Unpack what comes in into the folder of that name."""
    from arrowslit.sandbox.archive import unpack as unpack_into
    from arrowslit.sandbox.entries import Unsafe

    folder = workspace.open(_full(workspace, name) + "/.", os.O_RDONLY | os.O_DIRECTORY, make=True)
    try:
        made = unpack_into(sys.stdin.buffer.read(), folder)
    except Unsafe as unsafe:
        raise Refused(str(unsafe)) from unsafe
    finally:
        os.close(folder)
    return {"files": made.files}


def found(workspace: Workspace) -> object:
    """Every file in OUTPUTS: its name there, its size, and a stamp that no writer leaves as it was. `others` are names
    of what is no file and is left here, `more` says that there are more than are named.
    """
    files: list[tuple[str, int, str]] = []
    others: list[str] = []
    for name, kind in _below(workspace):
        if len(files) + len(others) == MOST_FILES:
            return {"files": files, "others": others, "more": True}
        if kind is None:
            others.append(_shown(name))
        else:
            files.append((_shown(name), kind.st_size, f"{kind.st_ino}.{kind.st_mtime_ns}.{kind.st_ctime_ns}"))
    return {"files": files, "others": others, "more": False}


def get(workspace: Workspace, name: str, most: str) -> None:
    """Give out a file of OUTPUTS, of so many bytes at most. No symlink is followed on the way to it."""
    fd = workspace.open(_full(workspace, OUTPUTS + "/" + name), os.O_RDONLY)
    with os.fdopen(fd, "rb") as file:
        regular(fd, name)
        left = int(most)
        while left > 0 and (data := file.read(min(CHUNK, left))):
            sys.stdout.buffer.write(data)
            left -= len(data)


COMMANDS: dict[str, Callable[..., object]] = {"put": put, "unpack": unpack, "found": found, "get": get}


def serve() -> None:
    """Do what the command line says, in the folder that this was started in."""
    command, *rest = sys.argv[2:]
    try:
        said = COMMANDS[command](Workspace(os.getcwd()), *rest)
    except Refused as refused:
        sys.exit(_refusal(str(refused)))
    except OSError as error:
        sys.exit(_refusal(reason(error)))
    except MemoryError:
        sys.exit(_refusal("out of memory"))
    if said is not None:
        sys.stdout.write(json.dumps(said))


def _refusal(why: str) -> int:
    sys.stdout.write(_shown(why))
    return 1


def _full(workspace: Workspace, name: str) -> str:
    return workspace.root + "/" + name


def _below(workspace: Workspace) -> Iterator[tuple[str, os.stat_result | None]]:
    """Everything in OUTPUTS but folders, those that are no files without a status."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            fd = workspace.open(_full(workspace, OUTPUTS + "/" + folder + "."), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue  # there is none, or it is a link
        try:
            for name in sorted(os.listdir(fd)):
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue  # somebody tidies up meanwhile
                if stat.S_ISDIR(status.st_mode) and folder.count("/") < MOST_DEPTH:
                    waiting.append(folder + name + "/")
                else:
                    yield folder + name, status if stat.S_ISREG(status.st_mode) else None
        finally:
            os.close(fd)


def _shown(name: str) -> str:
    return SURROGATE.sub("\ufffd", name)
