from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.sandbox.entries import HARMLESS, MIB, Entry, Kind, Limits, Unsafe, path_of, plan

LIMITS = Limits(entries=5, total=3 * MIB, file=2 * MIB, ratio=10, depth=3, path=40, part=20)


def entry(name: str = "a", kind: Kind = "file", size: int = 0, target: str = "") -> Entry:
    return Entry(name, kind, size, target=target)


REFUSED = {
    "an absolute name": [entry("/etc/cron.d/x")],
    "a name that climbs": [entry("../x")],
    "a name that climbs from below": [entry("a/../../x")],
    "a name that climbs and comes back": [entry("a/../x")],
    "a name of Windows that climbs": [entry("..\\x")],
    "a name with NUL": [entry("a\0/../x")],
    "a name that a terminal obeys": [entry("a\x1b]0;x\x07")],
    "a name that reads backwards": [entry("a\u202etxt.exe")],
    "a name that is no text": [entry("a\udcff")],
    "no name": [entry("")],
    "the folder itself, as a file": [entry("./")],
    "the folder itself, as a link": [entry(".", "symlink", target="x")],
    "a deep name": [entry("a/b/c/d")],
    "a long name": [entry("a" * 21)],
    "a long path": [entry("a" * 19 + "/" + "b" * 19 + "/" + "c")],
    "a device": [entry(kind="special")],
    "a sparse file": [entry(kind="sparse")],
    "a negative size": [entry(size=-1)],
    "a large file": [entry(size=2 * MIB + 1)],
    "many files": [entry(str(number)) for number in range(6)],
    "much in all": [entry(str(number), size=2 * MIB) for number in range(2)],
    "a file twice": [entry("a"), entry("a")],
    "a file twice, by another spelling": [entry("a"), entry("./a")],
    "a file twice, by another form of Unicode": [entry("\u00e9"), entry("e\u0301")],
    "a file where a folder is": [entry("a/b"), entry("a")],
    "a folder where a file is": [entry("a"), entry("a", "folder")],
    "a file below a file": [entry("a"), entry("a/b")],
    "a file below a link": [entry("a", "symlink", target="b"), entry("a/c")],
    "a link where a folder is": [entry("a/c"), entry("a", "symlink", target="b")],
    "a link that is absolute": [entry("a", "symlink", target="/etc/passwd")],
    "a link that climbs out": [entry("a", "symlink", target="../x")],
    "a link that climbs out from below": [entry("d/a", "symlink", target="../../x")],
    "a link that climbs after going down": [entry("d/a", "symlink", target="../b/../../x")],
    "a link to nothing": [entry("a", "symlink")],
    "a link with NUL": [entry("a", "symlink", target="b\0c")],
    "a hard link out": [entry("a", "hardlink", target="../x")],
    "a hard link that is absolute": [entry("a", "hardlink", target="/etc/shadow")],
    "a hard link to what is not there": [entry("a", "hardlink", target="b")],
    "a hard link to what comes later": [entry("a", "hardlink", target="b"), entry("b")],
    "a hard link to a link": [entry("b", "symlink", target="c"), entry("a", "hardlink", target="b")],
    "a hard link to a folder": [entry("b", "folder"), entry("a", "hardlink", target="b")],
}


@pytest.mark.parametrize("entries", REFUSED.values(), ids=REFUSED)
def test_what_is_not_wanted_is_refused_by_its_entries_alone(entries: list[Entry]) -> None:
    with pytest.raises(Unsafe) as refused:
        plan(entries, MIB, LIMITS)

    assert str(refused.value).isprintable()


ALLOWED = {
    "nothing": [],
    "as tar has a folder": [entry("./", "folder"), entry("./a", "folder"), entry("./a/b")],
    "a folder after what is in it, and again": [entry("a/b"), entry("a", "folder"), entry("a/", "folder")],
    "a link beside": [entry("a", "symlink", target="b")],
    "a link up and down": [entry("d/a", "symlink", target="../e/f")],
    "a link to its own folder": [entry("d/a", "symlink", target="..")],
    "a hard link": [entry("a"), entry("b", "hardlink", target="./a"), entry("c", "hardlink", target="b")],
}


@pytest.mark.parametrize("entries", ALLOWED.values(), ids=ALLOWED)
def test_what_honest_archives_hold_is_taken(entries: list[Entry]) -> None:
    assert [step.entry for step in plan(entries, MIB, LIMITS)] == entries


def test_a_small_archive_does_not_become_a_large_one() -> None:
    bomb = [entry(size=HARMLESS + 1)]

    with pytest.raises(Unsafe):
        plan(bomb, HARMLESS // 200, Limits())
    plan(bomb, HARMLESS // 200 + 1, Limits())


def test_an_archive_that_never_ends_is_not_read_to_its_end() -> None:
    def endless() -> Iterator[Entry]:
        number = 0
        while True:
            yield entry(str(number))
            number += 1

    with pytest.raises(Unsafe):
        plan(endless(), MIB, LIMITS)


@given(st.text(alphabet="ab./\\\0 \n\u202e", max_size=12))
def test_a_path_that_is_taken_stays_below_its_folder(name: str) -> None:
    try:
        parts = path_of(name, LIMITS)
    except Unsafe:
        return
    assert not {"", ".", ".."} & set(parts)
    assert not any("/" in part or "\0" in part for part in parts)
