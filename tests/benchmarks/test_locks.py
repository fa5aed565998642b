from __future__ import annotations

import re

from benchmarks import environments


def test_what_comes_from_pypi_is_pinned_and_hashed_and_names_no_host() -> None:
    text = (environments.HERE / "requirements.txt").read_text()
    entries = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]

    assert "mcp-proxy" in {entry.partition("==")[0] for entry in entries}
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert not re.search(r"://|--index|--find-links", text)
