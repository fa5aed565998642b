"""The environments of those whom we compare with and who are installed from PyPI and npm: where they are, how made.

`make bench` runs it. Standard library only. What cannot be had here is left out: the run then says so.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from requirements import install, node

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
NPM = HERE / "npm"


def python_folder() -> Path:
    """Of the hashed requirements: another for every content and every Python."""
    contents = install.digest(REQUIREMENTS.read_bytes())
    return install.ROOT / ".cache" / "benchmarks" / f"python-{contents[:12]}-{platform.python_version()}"


def mcp_proxy() -> Path:
    """The program; it exists after `make bench`."""
    return python_folder() / "bin" / "mcp-proxy"


def supergateway() -> Path:
    """The script for `node`; it exists after `make bench`."""
    return node.packages(NPM) / "supergateway" / "dist" / "index.js"


def main() -> int:
    """Make what is not there; returns 0 also when something could not be had."""
    for failure in (install.main(["--into", str(python_folder()), str(REQUIREMENTS)]), node.main([str(NPM)])):
        if failure:
            print(failure, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
