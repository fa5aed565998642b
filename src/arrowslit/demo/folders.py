"""Where the demo keeps its things: a folder beside the relay's own, or a temporary one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arrowslit.app import config


def lasting() -> Path:
    """`/var/lib/arrowslit-demo` for root, `$XDG_STATE_HOME/arrowslit-demo` for everybody else.

    Not inside the relay's state folder, which is closed to the user that runs PostgreSQL for root. Raises RuntimeError
    for an account without a home.
    """
    return config.default_state().with_name("arrowslit-demo")


@contextmanager
def kept_if_possible() -> Iterator[Path]:
    """The lasting folder, so that the next run is quick; a temporary one for an account that cannot write there."""
    if (folder := _writable()) is not None:
        yield folder
    else:
        with temporary() as folder:
            yield folder


def _writable() -> Path | None:
    try:
        folder = lasting()
        folder.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    there = folder if folder.exists() else folder.parent
    return folder if os.access(there, os.W_OK | os.X_OK) else None


@contextmanager
def temporary() -> Iterator[Path]:
    """A folder that is gone afterwards. PostgreSQL's user may pass through it."""
    folder = Path(tempfile.mkdtemp(prefix="arrowslit-demo-")).resolve()
    try:
        folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
