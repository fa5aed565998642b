"""Resolve all versions anew and write them, with hashes and without any host's name, beside what asks for them.

`make lock` runs it. The files are good for every Python that `pyproject.toml` allows, on Linux and macOS.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from requirements import install, node

CLIENTS = install.ROOT / "tests" / "clients"
BENCHMARKS = install.ROOT / "benchmarks"
FUZZ = install.ROOT / "tests" / "fuzz"
ALWAYS = ("--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--quiet", "--upgrade")
PROJECT = "pyproject.toml"
DEV = "requirements/dev.txt"


def main() -> None:
    """Write all files. `dev.txt` is the largest set; `run.txt` and `demo.txt` are held to its versions."""
    for tool in ("uv", "node"):
        compile_to(Path(f"requirements/{tool}.txt"), f"requirements/{tool}.in", "--no-annotate")
    compile_to(Path(DEV), PROJECT, "--extra", "demo", "--group", "build", "--group", "dev")
    compile_to(Path("requirements/run.txt"), PROJECT, "--group", "build", "-c", DEV, "--no-annotate")
    compile_to(
        Path("requirements/demo.txt"), PROJECT, "--extra", "demo", "--group", "build", "-c", DEV, "--no-annotate"
    )
    for source in sorted(each for folder in (CLIENTS, BENCHMARKS, FUZZ) for each in folder.glob("*.in")):
        compile_to(source.with_suffix(".txt"), os.path.relpath(source, install.ROOT), "--no-annotate")
    if failure := node.main([]):
        raise SystemExit(failure)
    for package in sorted(
        path for folder in ("benchmarks", "tests") for path in (install.ROOT / folder).rglob("package.json")
    ):
        print(f"resolving {os.path.relpath(package, install.ROOT)}", flush=True)
        node.lock(package.parent)


def compile_to(target: Path, *arguments: str) -> None:
    """Let uv write `target`; raises `CalledProcessError` when it cannot."""
    target = install.ROOT / target
    print(f"resolving {os.path.relpath(target, install.ROOT)}", flush=True)
    said = install.environment() | {"UV_CUSTOM_COMPILE_COMMAND": "make lock"}
    command = [str(install.get_uv()), "pip", "compile", *ALWAYS, "--output-file", str(target), *arguments]
    subprocess.run(command, cwd=install.ROOT, env=said, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
