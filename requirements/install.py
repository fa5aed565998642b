"""Fill a virtual environment from a file of hashed requirements; does nothing when it holds them already.

The Makefile runs it with the machine's Python (>= 3.11), so it uses the standard library only:

    python3 requirements/install.py demo              the set `demo` and the project itself into .venv
    python3 requirements/install.py --into DIR FILE   what FILE lists into DIR

uv does the work; pip fetches it, hashed too, into `.cache/boot`. Where uv cannot work, pip takes half a minute for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
BOOT = ROOT / ".cache" / "boot"
VENV = ROOT / ".venv"

# Each set and those that contain it, the largest first: `make demo` after `make test` takes nothing away.
HELD_BY = {"run": ("dev", "demo", "run"), "demo": ("dev", "demo"), "dev": ("dev",)}

HASHED = ("--require-hashes", "--only-binary", ":all:")
# The build backend is among the hashed requirements.
PROJECT = ("--no-deps", "--no-build-isolation", "--editable", str(ROOT))

NO_VENV = "this Python cannot make virtual environments (on Debian and Ubuntu: apt-get install python3-venv)"
NO_PACKAGES = "the packages could not be installed (the first run needs the network; HTTPS_PROXY is honoured):"
NOT_OURS = (
    "no permission to write {}: run make as the user who owns this folder, or remove what another user left there"
)


class Failed(Exception):
    """One sentence for the person at the terminal, and below it what a tool said."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an environment holds; it is good as long as every field is as it would be today."""

    name: str
    contents: str  # hash of the files it was made from
    python: str = sys.version.split()[0]
    place: str = str(ROOT)  # scripts name their interpreter by its full path, so a moved clone needs a new one

    def write(self, venv: Path) -> None:
        (venv / "stamp.json").write_text(json.dumps(asdict(self)) + "\n")


def read_stamp(venv: Path) -> Stamp | None:
    """The stamp of `venv`; None if it was never finished, or its interpreter is gone."""
    try:
        stamp = Stamp(**json.loads((venv / "stamp.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return stamp if (venv / "bin" / "python").exists() else None


def wish(arguments: list[str]) -> tuple[Path, Path, Stamp]:
    """What `arguments` ask for: an environment, the file it is filled from, and the stamp it then has.

    A set that contains the one asked for, and is there already, is as good.
    """
    match arguments:
        case ["--into", folder, file]:
            requirements = Path(file).resolve()
            return Path(folder).resolve(), requirements, Stamp(requirements.stem, digest(requirements.read_bytes()))
        case [name] if name in HELD_BY:
            there = read_stamp(VENV)
            chosen = there.name if there and there.name in HELD_BY[name] else name
            requirements = REQUIREMENTS / f"{chosen}.txt"
            return VENV, requirements, Stamp(chosen, digest(requirements.read_bytes(), project()))
    raise Failed("usage: install.py run|demo|dev, or install.py --into DIR FILE")


def fill(venv: Path, requirements: Path, stamp: Stamp) -> None:
    """Make `venv` hold exactly what the hashed file lists, and `.venv` the project itself beside it."""
    print(f"installing {os.path.relpath(requirements, ROOT)} into {os.path.relpath(venv, ROOT)}", flush=True)
    there = read_stamp(venv)
    if there is None or (there.python, there.place) != (stamp.python, stamp.place):
        make_venv(venv, "--without-pip")
    if not with_uv(venv, requirements):
        with_pip(venv, requirements)
    stamp.write(venv)


def with_uv(venv: Path, requirements: Path) -> bool:
    """Let uv do it; returns whether it could."""
    uv = get_uv()
    if uv is None:
        return False
    to = ("--python", str(venv / "bin" / "python"))
    try:
        run(uv, "pip", "sync", *to, *HASHED, str(requirements))
        if venv == VENV:
            run(uv, "pip", "install", *to, *PROJECT)
    except Failed as failure:
        print(f"uv could not: {str(failure).splitlines()[-1].strip()}", flush=True)
        return False
    return True


def with_pip(venv: Path, requirements: Path) -> None:
    """Let pip do it, which leaves what is there beyond the list; raises `Failed`."""
    print("trying pip instead, which may take half a minute", flush=True)
    pip = (str(BOOT / "bin" / "python"), "-m", "pip", "--python", str(venv / "bin" / "python"), "install")
    run(*pip, *HASHED, "-r", str(requirements))
    if venv == VENV:
        run(*pip, *PROJECT)


def get_uv() -> str | None:
    """The uv of `requirements/uv.txt`, fetched first if need be; None where it has no wheel for this machine."""
    requirements = REQUIREMENTS / "uv.txt"
    stamp = Stamp("uv", digest(requirements.read_bytes()))
    if read_stamp(BOOT) != stamp:
        make_venv(BOOT)
        try:
            run(str(BOOT / "bin" / "python"), "-m", "pip", "install", *HASHED, "-r", str(requirements))
        except Failed as failure:
            if "No matching distribution" not in str(failure) or "connection broken" in str(failure):
                raise
        stamp.write(BOOT)
    uv = BOOT / "bin" / "uv"
    return str(uv) if uv.exists() else None


def make_venv(venv: Path, *flags: str) -> None:
    """An empty environment at `venv`, whatever was there before."""
    shutil.rmtree(venv, ignore_errors=True)
    run(sys.executable, "-m", "venv", *flags, str(venv), otherwise=NO_VENV)


def run(*command: str, otherwise: str = NO_PACKAGES) -> None:
    """Run `command`; raises `Failed` with the sentence `otherwise` and the end of what the command said."""
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()[-12:]
        raise Failed("\n".join([otherwise, *(f"    {line}" for line in said)]))


def environment() -> dict[str, str]:
    """The caller's, without what would lead elsewhere; uv trusts the machine's certificates and fetches no Python."""
    misleading = {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "UV_TARGET"}
    mine = {name: value for name, value in os.environ.items() if name not in misleading}
    mine |= {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    mine.setdefault("PIP_RETRIES", "2")
    if not os.access(Path.home(), os.W_OK):  # an account without a home: keep the downloads in the clone
        mine.setdefault("UV_CACHE_DIR", str(ROOT / ".cache" / "uv"))
    return mine


def project() -> bytes:
    """What of `pyproject.toml` an installation depends on; the settings of ruff and the like are none of it."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return json.dumps([described["project"], described["build-system"], described["tool"]["hatch"]]).encode()


def digest(*contents: bytes) -> str:
    """One hash over all of `contents`."""
    return hashlib.sha256(b"\0".join(contents)).hexdigest()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two commands in one clone, `make demo` and `make test`, take turns here."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache" / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> str | None:
    """Do what `arguments` ask; returns what went wrong, as text, or None."""
    try:
        venv, _, stamp = wish(arguments)
        if read_stamp(venv) == stamp:
            return None
        with one_at_a_time():
            venv, requirements, stamp = wish(arguments)  # another command may have been here meanwhile
            if read_stamp(venv) != stamp:
                fill(venv, requirements, stamp)
    except PermissionError as error:
        return "arrowslit: " + NOT_OURS.format(error.filename)
    except Failed as failure:
        return f"arrowslit: {failure}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
