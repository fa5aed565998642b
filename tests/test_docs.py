"""What the documentation shows runs, and where it leads there is something."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from arrowslit.link.pipe import CloseCode
from arrowslit.protocol.frames import REASONS, Kind, encode
from arrowslit.protocol.hello import Transcript
from arrowslit.protocol.state import Ending
from tests.fixtures_postgres import open_folder
from tests.harness import environment
from tests.support.transcript import EVERY, entries, play

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

# A reader of the README uses the state folder and the port that are there by default. Here they may be somebody's: the
# relay and the connector get others, and the commands beside them are told of it.
ELSEWHERE = """arrowslit() {
  case $1 in
    serve) shift; set -- serve --state "$PWD/relay" --listen 127.0.0.1:8420 "$@" ;;
    connect) shift; set -- connect --state "$PWD/connector" "$@" ;;
    *) export ARROWSLIT_RELAY=http://127.0.0.1:8420 ARROWSLIT_API_KEY_FILE="$PWD/relay/admin.key" ;;
  esac
  command arrowslit "$@"
}"""


@pytest.fixture
def clone() -> Iterator[Path]:
    """A folder that looks like a clone in which `make demo` has run."""
    with open_folder() as folder:
        for name in (".venv", "src", "examples"):
            (folder / name).symlink_to(ROOT / name)
        yield folder


def shown(page: str) -> str:
    """A page, with a free port in place of the usual one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return (ROOT / page).read_text().replace("8420", str(probe.getsockname()[1]))


def test_the_loop_by_hand_prints_what_the_page_shows(clone: Path) -> None:
    before = sorted(clone.iterdir())

    assert play(shown("docs/by-hand.md"), clone, environment(TMPDIR=str(clone))) > 50

    assert sorted(clone.iterdir()) == before  # its last command removes what it has made


def test_the_readme_prints_what_it_shows(clone: Path) -> None:
    page = shown("README.md")
    port = re.findall(r"127\.0\.0\.1:([0-9]+)", page)[0]

    assert play(page, clone, environment(), ELSEWHERE.replace("8420", port)) >= 10


def test_the_page_on_agents_prints_what_it_shows_in_ten_commands(clone: Path) -> None:
    page = shown("docs/agents.md")
    port = re.findall(r"127\.0\.0\.1:([0-9]+)", page)[0]
    typed = [entry for entry in entries(page.partition("## An agent that falls silent")[0]) if entry.terminal != EVERY]

    assert len(typed) <= 10
    assert play(page, clone, environment(TMPDIR=str(clone)), ELSEWHERE.replace("8420", port)) > len(typed)


def test_the_quick_start_is_two_commands_that_exist() -> None:
    start = (ROOT / "README.md").read_text().partition("## Quick start")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", start, re.DOTALL)
    commands = [line.partition("#")[0].split() for line in block.splitlines()]

    assert commands == [["make", "demo"], ["make", "test"]]
    for command in commands:
        subprocess.run([*command, "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_leads_nowhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)

    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, part = link.partition("#")
        if "://" in link:
            continue
        there = (page.parent / path) if path else page
        assert there.exists(), link
        assert not part or part in anchors(there), link


def test_the_protocol_page_names_what_the_protocol_has() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    kinds = re.findall(r"^\| ([A-Z]+) \| ([0-9]+) \|", page, re.MULTILINE)
    endings = re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)
    example = re.findall(r"^    ((?:[0-9a-f]{2} +)+[0-9a-f]{2})$", page, re.MULTILINE)
    errors, _, codes = page.partition("## Errors\n")[2].partition("\n## ")[0].partition("WebSocket close codes:")

    assert kinds == [(kind.name, str(int(kind))) for kind in Kind]
    assert endings == [ending.value for ending in Ending]
    assert [bytes.fromhex(each) for each in example] == [encode(Kind.PING, 0, (1).to_bytes(8))]
    assert set(re.findall(r"`([a-z_]+)`", errors)) == REASONS
    assert set(map(int, re.findall(r"\b[14][0-9]{3}\b", codes))) == set(map(int, CloseCode))
    assert f'"{Transcript(b"", b"", "", 1, []).signed_by("relay", None)[4:21].decode()}"' in page


def anchors(page: Path) -> set[str]:
    """The names of a page's headings in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_transcript_is_read_block_by_block() -> None:
    page = """
```console
# terminal 2: somewhere
$ one
$ two <<END
> more
> END
printed
  and more
```
Words.
```console
^C
bye
```
```sh
$ not this
```
"""

    assert [tuple(entry) for entry in entries(page)] == [
        ("terminal 2", "one", ""),
        ("terminal 2", "two <<END\nmore\nEND", "printed\n  and more"),
        ("terminal 2", "^C", "bye"),
    ]


def test_a_page_that_shows_something_else_fails(tmp_path: Path) -> None:
    page = "```console\n$ echo one; echo two\n{}\n```\n"

    assert play(page.format("one\ntwo"), tmp_path, environment()) == 1
    assert play(page.format("o…wo"), tmp_path, environment()) == 1
    for wrong in ("one", "one\ntwo\nthree", "two…", ""):
        with pytest.raises(AssertionError, match="and not"):
            play(page.format(wrong), tmp_path, environment())


def test_what_is_copied_was_printed_last(tmp_path: Path) -> None:
    page = "```console\n$ echo key_1, key_2; echo '[key_3]'\n…\n$ echo key_…\nkey_2\n$ false\n$ echo $?\n1\n```\n"

    assert play(page, tmp_path, environment()) == 4
