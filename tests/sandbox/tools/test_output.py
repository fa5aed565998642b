from __future__ import annotations

import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.sandbox.tools.output import BEFORE, ESCAPES, MOST_OUTPUT, SLACK, Tail, script

MARK = "0123456789abcdef" * 2


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """The same bytes in pieces of these sizes, the rest as one."""
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


@given(printed=st.binary(max_size=200), status=st.integers(0, 255), sizes=st.lists(st.integers(1, 50)))
def test_the_mark_is_found_however_the_output_is_sliced(printed: bytes, status: int, sizes: list[int]) -> None:
    tail = Tail(MARK)
    data = printed + b"\n%s%d\n" % (MARK.encode(), status)

    found = [tail.take(piece) for piece in pieces(data, sizes)]

    assert [each for each in found if each is not None] == [status]
    assert tail.text() == ESCAPES.sub("", printed.decode(errors="replace")).rstrip("\n")


@pytest.mark.parametrize("size", [MOST_OUTPUT - 1, MOST_OUTPUT, MOST_OUTPUT + 1, MOST_OUTPUT + SLACK, 5 * MOST_OUTPUT])
@pytest.mark.parametrize("piece", [4096, 65536, 10**9])
def test_the_last_100_kib_are_kept(size: int, piece: int) -> None:
    tail = Tail(MARK)
    printed = (b"%07d\n" * (size // 8 + 1) % tuple(range(size // 8 + 1)))[: size - 1] + b"."
    data = printed + b"\n%s0\n" % MARK.encode()

    found = [tail.take(data[at : at + piece]) for at in range(0, len(data), piece)]

    assert found[-1] == 0
    kept = printed.decode()[-MOST_OUTPUT:]
    assert tail.text() == (kept if size <= MOST_OUTPUT else f"[output truncated]\n{kept}")


def test_a_shell_that_ends_leaves_what_it_said() -> None:
    tail = Tail(MARK)

    assert tail.take(b"\n a line \n\n") is None

    assert tail.text() == "a line"


@pytest.mark.parametrize(
    ("printed", "plain"),
    [
        ("\x1b[1;38;2;1;2;3mred\x1b[0m\x1b[K", "red"),
        ("\x1b[?1049h\x1b[>c\x1b[!p\x1b[ q.", "."),
        ("\x1b]52;c;c3RlYWw=\x07a\x1b]8;;http://x\x1b\\b", "ab"),
        ("\x1bP+q544e\x1b\\a\x1b_x\x07b\x1b^y\x1b\\c", "abc"),
        ("\x1b(B\x1b)0\x1b7\x1b8\x1bc\x1b=a", "a"),
        ("\x1b]0;never ends", "0;never ends"),
        ("a\rb\tc\bd", "a\rb\tc\bd"),
        ("\x1b", "\x1b"),
    ],
)
def test_escape_sequences_of_a_terminal_are_left_out(printed: str, plain: str) -> None:
    assert ESCAPES.sub("", printed) == plain


@pytest.mark.parametrize("printed", ["\x1b[", "\x1b]", "\x1b[0", "\x1b]0", "\x1b[ ", "\x1b[0;", "\x1b /"])
def test_leaving_them_out_takes_no_time(printed: str) -> None:
    begun = time.process_time()

    ESCAPES.sub("", printed * 50_000)
    ESCAPES.sub("", printed[:2] + printed[2:] * 100_000)

    assert time.process_time() - begun < 1


@given(command=st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30))
def test_no_command_breaks_out_of_its_line(command: str) -> None:
    line, mark, rest = script(command, MARK).rpartition("\nbuiltin printf")

    assert mark
    assert rest == f" '\\n%s%d\\n' {MARK} $? >&250\n"
    said = subprocess.run(
        ["/bin/bash", "--norc"],
        input=BEFORE.encode() + line.replace("eval ", "printf '<%s>' ", 1).encode(),
        capture_output=True,
        timeout=5,
        check=False,
        env={"LC_ALL": "C.UTF-8"},
    )
    assert said.stdout == f"<{command}>".encode()
