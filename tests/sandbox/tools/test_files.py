from __future__ import annotations

import asyncio
import base64

import pytest

from arrowslit.sandbox.isolation.unconfined import Unconfined
from tests.sandbox.tools.hands import Hands

pytestmark = pytest.mark.asyncio(loop_scope="module")

SWAP = """
cat >swap.py <<'END'
import ctypes
exchange = ctypes.CDLL(None).renameat2
while True:
    exchange(-100, b"d", -100, b"l", 2)
END
python3 swap.py & until [ -L d ]; do :; done"""
SPECIAL = """
mkfifo fifo read-fifo
exec 7<>read-fifo
python3 -c 'import socket; socket.socket(1).bind("socket")'
"""


async def test_h5_what_is_no_file_is_refused_without_waiting(hands: Hands) -> None:
    await hands("bash", command=f"{SPECIAL} (sleep 5 <&7) & true")

    for name in ("fifo", "read-fifo", "socket"):
        assert await hands("read", file_path=name) == f"error: read: {name}: not a regular file"
        assert await hands("write", file_path=name, content="x") == f"error: write: {name}: not a regular file"
        given = {"file_path": name, "old_string": "a", "new_string": "b"}
        assert await hands("edit", **given) == f"error: edit: {name}: not a regular file"
    assert await hands("grep", pattern="x") == "no matches"


async def test_a_file_that_may_not_be_read_says_so(hands: Hands) -> None:
    await hands("bash", command="echo x >f; chmod 0 f; mkdir d; echo y >d/f; chmod 0 d; mkdir e; chmod 500 e")

    assert await hands("read", file_path="f") == "error: read: f: permission denied"
    assert await hands("write", file_path="f", content="") == "error: write: f: permission denied"
    assert await hands("read", file_path="d/f") == "error: read: path 'd/f': permission denied"
    assert await hands("write", file_path="e/f", content="") == "error: write: e/f: permission denied"
    assert await hands("write", file_path="e/d/f", content="") == "error: write: e/d/f: permission denied"
    assert await hands("glob", pattern="**/f") == "/workspace/f"
    assert await hands("grep", pattern=".") == "no matches"


@pytest.mark.parametrize(
    ("before", "path"),
    [("mkdir d; echo inside >d/passwd; ln -s /etc l", "d/passwd"), ("echo inside >d; ln -s /etc/passwd l", "d")],
    ids=["H1-H3-folder", "H2-H3-file"],
)
async def test_what_is_swapped_for_a_symlink_leads_nowhere_else(before: str, path: str, hands: Hands) -> None:
    """H1, H2, H3: a symlink takes the place of a folder or file between the look and the opening."""
    await hands("bash", command=before + SWAP)

    said = [await hands("read", file_path=path) for _ in range(400)]
    await hands("bash", command="kill %1")

    assert {each if each == "inside\n" else each[:11] for each in said} == {"inside\n", "error: read"}


async def test_writing_through_a_swapped_folder_changes_nothing_else(hands: Hands) -> None:
    await hands("bash", command="mkdir -p d /tmp/out; ln -s /tmp/out l" + SWAP)

    said = {(await hands("write", file_path=f"d/f{i}", content="x"))[:9] for i in range(400)}

    assert said == {"wrote 1 b", "error: wr"}
    assert await hands("bash", command="kill %1; ls /tmp/out") == "(no output)"


async def test_a_full_disk_loses_nothing(hands: Hands) -> None:
    await hands("write", file_path="f", content="before")
    await hands("bash", command="mkdir d; cat /dev/zero >fill")
    large = "x" * 100_000

    assert await hands("write", file_path="f", content=large) == "error: write: f: no space left on device"
    given = {"file_path": "f", "old_string": "f", "new_string": large}
    assert await hands("edit", **given) == "error: edit: f: no space left on device"
    assert await hands("write", file_path="d/g", content=large) == "error: write: d/g: no space left on device"

    assert await hands("read", file_path="f") == "before"
    assert await hands("bash", command="rm fill; stat -c %s f") == "6"


async def test_a_file_that_grows_is_read_to_the_limit(hands: Hands) -> None:
    await hands("bash", command="yes >f & until [ -s f ]; do :; done")

    said = [await hands("read", file_path="f") for _ in range(3)]

    await hands("bash", command="kill %1; rm f")
    assert all(each.startswith(("y\n", "error: read: f is ")) for each in said)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("d/" * 3000, "error: read: path {0!r}: file name too long"),
        ("x" * 256, "error: read: path {0!r}: file name too long"),
        ("\ud800", r"error: read: path '\ud800': no file can have this name"),
        ("//workspace//f", "text"),
        ("/workspace/../workspace/f", "text"),
        ("/workspace/../etc/passwd", "error: read: path {0!r} is outside the session's working directory"),
        ("/workspaces", "error: read: path {0!r} is outside the session's working directory"),
        ("/proc/self/cwd/f", "text"),
        ("/proc/1/root/etc/passwd", "error: read: path {0!r}: permission denied"),
        ("/dev/stdin", "error: read: path {0!r} is outside the session's working directory"),
    ],
)
async def test_a_path_may_be_anything(path: str, said: str, hands: Hands) -> None:
    await hands("write", file_path="f", content="text")

    assert await hands("read", file_path=path) == said.format(path)


async def test_a_name_that_is_no_utf_8_is_shown_replaced(hands: Hands) -> None:
    await hands("bash", command=r"""echo x >$'caf\xe9'; mkdir $'\xff'; echo x >$'\xff/f'""")

    assert set((await hands("glob", pattern="**/*")).split()) == {
        f"/workspace/{n}" for n in ("caf\ufffd", "\ufffd", "\ufffd/f")
    }
    assert await hands("grep", pattern="x") == "/workspace/caf\ufffd:1:x\n/workspace/\ufffd/f:1:x"


async def test_a_new_file_is_readable_by_all_programs_and_executable_by_none(hands: Hands) -> None:
    await hands("write", file_path="a/f", content="")

    assert (
        await hands("bash", command="stat -c '%a %F %U' a a/f")
        == "755 directory sandbox\n644 regular empty file sandbox"
    )


async def test_the_largest_document_passes(hands: Hands) -> None:
    await hands(
        "bash", command="head -c 20971520 /dev/urandom >f.pdf; sha256sum f.pdf; base64 -w0 f.pdf | tail -c 9 >end"
    )

    [block] = await hands.blocks("read", file_path="f.pdf")

    assert (block["type"], block["source"]["type"], block["source"]["media_type"]) == (
        "document",
        "base64",
        "application/pdf",
    )
    assert len(base64.b64decode(block["source"]["data"], validate=True)) == 20971520
    assert block["source"]["data"].endswith(await hands("read", file_path="end"))


async def test_megabytes_are_written(hands: Hands) -> None:
    content = "é" * 3_000_000

    assert await hands("write", file_path="f", content=content) == "wrote 3000000 bytes to f"

    assert await hands("bash", command="stat -c %s f; head -c 4 f") == "6000000\néé"


async def test_calls_that_come_at_once_are_not_mixed_up(hands: Hands) -> None:
    await asyncio.gather(*(hands("write", file_path=f"f{i}", content=f"{i}") for i in range(20)))

    said = await asyncio.gather(*(hands("read", file_path=f"f{i}") for i in range(20)))

    assert said == [str(i) for i in range(20)]


async def test_without_isolation_the_tools_keep_to_their_folder() -> None:
    async with Unconfined() as isolation:
        hands = Hands(await isolation.open("sesn_1"))
        folder = await hands("bash", command="pwd")

        assert await hands("write", file_path="d/f", content="text") == "wrote 4 bytes to d/f"
        assert await hands("bash", command="cat d/f") == "text"
        assert await hands("glob", pattern="**/f") == f"{folder}/d/f"
        assert await hands("grep", pattern="x") == f"{folder}/d/f:1:text"
        assert "is outside" in await hands("read", file_path="/etc/passwd")
        await hands.close()
