"""Fill a virtual environment from a file of hashed requirements; does nothing when it holds them already.

The Makefile runs it with the machine's Python (>= 3.11), so it uses the standard library only:

    python3 requirements/install.py demo              the set `demo` and the project itself into .venv
    python3 requirements/install.py --into DIR FILE   what FILE lists into DIR

uv does the work. pip fetches it, hashed too, into `.cache/boot`; where uv cannot work, pip does the same in 10 to 20 s.
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


def install_set(wanted: str) -> None:
    """Make `.venv` hold the set `wanted` and the project, editable; a larger set that is there stays."""
    before = read_stamp(VENV)
    name = before.name if before and before.name in HELD_BY[wanted] else wanted
    requirements = REQUIREMENTS / f"{name}.txt"
    stamp = Stamp(name, digest(requirements.read_bytes(), project()))
    if before == stamp:
        return
    fill(VENV, requirements)
    install("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    stamp.write(VENV)


def install_into(venv: Path, requirements: Path) -> None:
    """Make `venv` hold what `requirements` lists."""
    stamp = Stamp(requirements.stem, digest(requirements.read_bytes()))
    if read_stamp(venv) == stamp:
        return
    fill(venv, requirements)
    stamp.write(venv)


def fill(venv: Path, requirements: Path) -> None:
    """Make `venv` anew and install what the hashed file lists; with uv that costs less than asking what is there."""
    print(f"installing {os.path.relpath(requirements, ROOT)} into {os.path.relpath(venv, ROOT)}", flush=True)
    make_venv(venv, "--without-pip")
    install("--require-hashes", "--only-binary", ":all:", "-r", str(requirements), into=venv)


def install(*arguments: str, into: Path = VENV) -> None:
    """Let uv, else pip, install `arguments`; both know the same flags."""
    uv = get_uv()
    python = str(into / "bin" / "python")
    if uv is not None:
        try:
            run(str(uv), "pip", "install", "--python", python, *arguments)
            return
        except Failed:
            print("uv did not succeed, trying pip", flush=True)
    run(str(BOOT / "bin" / "python"), "-m", "pip", "--python", python, "install", *arguments)


def get_uv() -> Path | None:
    """The uv of `requirements/uv.txt`, fetched first if need be; None where it has no wheel for this machine."""
    requirements = REQUIREMENTS / "uv.txt"
    stamp = Stamp("uv", digest(requirements.read_bytes()))
    if read_stamp(BOOT) != stamp:
        make_venv(BOOT)
        arguments = ("--require-hashes", "--only-binary", ":all:", "-r", str(requirements))
        try:
            run(str(BOOT / "bin" / "python"), "-m", "pip", "install", *arguments)
        except Failed as failure:
            if "No matching distribution" not in str(failure) or "connection broken" in str(failure):
                raise
        stamp.write(BOOT)
    uv = BOOT / "bin" / "uv"
    return uv if uv.exists() else None


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
        with one_at_a_time():
            match arguments:
                case ["--into", venv, requirements]:
                    install_into(Path(venv).resolve(), Path(requirements).resolve())
                case [name] if name in HELD_BY:
                    install_set(name)
                case _:
                    return "usage: install.py run|demo|dev, or install.py --into DIR FILE"
    except PermissionError as error:
        return "arrowslit: " + NOT_OURS.format(error.filename)
    except Failed as failure:
        return f"arrowslit: {failure}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
