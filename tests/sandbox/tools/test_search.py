from __future__ import annotations

import asyncio

import pytest

from arrowslit.sandbox.isolation.isolation import Sandbox
from arrowslit.sandbox.tools.helper import FileTool, Helper
from arrowslit.sandbox.tools.tool import ToolError
from tests.harness import PATIENCE
from tests.sandbox.tools.hands import Hands

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_grep_says_where_it_stopped(hands: Hands) -> None:
    await hands("bash", command=f"for i in $(seq 3000); do echo $i {'x' * 40}; done >f")

    said = await hands("grep", pattern="x")

    *lines, last = said.split("\n")
    assert last == "[output truncated at 102400 bytes]"
    assert lines == [f"/workspace/f:{i + 1}:{i + 1} {'x' * 40}" for i in range(len(lines))]
    assert 102400 - 70 < len("\n".join(lines)) <= 102400


async def test_an_expression_without_end_is_broken_off(sandbox: Sandbox, hands: Hands) -> None:
    helper = Helper(sandbox, seconds=0.2)
    grep = FileTool("grep", helper)
    await hands("write", file_path="f", content="a" * 100)

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ToolError, match=r"^grep: timed out after 0\.2s$"):
            await grep.call({"pattern": "(a+)+b"})
    [block] = await grep.call({"pattern": "^a{100}$"})  # by the same process
    assert block["text"] == "/workspace/f:1:" + "a" * 100
    await grep.close()


async def test_a_glob_without_end_is_broken_off(sandbox: Sandbox, hands: Hands) -> None:
    glob = FileTool("glob", Helper(sandbox, seconds=0.1))
    await hands("bash", command="mkdir -p $(seq -s / 60); mkdir -p $(seq -f x%g -s / 60)")

    with pytest.raises(ToolError, match=r"^glob: timed out after 0\.1s$"):
        await glob.call({"pattern": "**/*/" * 40 + "none"})

    await glob.close()


@pytest.mark.parametrize("pattern", ["a{99999999999}", "(" * 2000 + ")" * 2000, "(?<=a+)", "\\N{nothing}", "(?z)"])
async def test_an_expression_that_cannot_be_read_is_refused(pattern: str, hands: Hands) -> None:
    assert (await hands("grep", pattern=pattern)).startswith("error: grep: invalid regex: ")


async def test_a_pattern_may_be_anything(hands: Hands) -> None:
    await hands("bash", command="mkdir '[a]'; touch '[a]/f' '*' '?' '{a,b}'")

    assert await hands("glob", pattern="[[]a]/f") == "/workspace/[a]/f"
    assert await hands("glob", pattern="[*]") == "/workspace/*"
    assert await hands("glob", pattern="{a,b}") == "/workspace/{a,b}"
    for odd in ("[", "a\0b", "\ud800", "x" * 5000, "a" * 100 + "*" * 100 + "b", "*a" * 200, "/".join(["*"] * 3000)):
        assert await hands("glob", pattern=odd) == "no matches"


async def test_a_tree_deeper_than_a_path_may_be_long_is_searched_to_the_ground(hands: Hands) -> None:
    dig = "import os\nfor i in range(60):\n os.mkdir('d' * 100)\n os.chdir('d' * 100)\nopen('f', 'w').write('found')"
    await hands("bash", command=f'python3 -c "{dig}"')
    file = "/workspace/" + ("d" * 100 + "/") * 60 + "f"

    assert await hands("grep", pattern="found") == f"{file}:1:found"
    assert await hands("glob", pattern="**/f") == file


async def test_links_and_loops_are_not_followed_into(hands: Hands) -> None:
    await hands("bash", command="mkdir -p a/b; ln -s ../.. a/b/up; ln -s /etc a/etc; ln -s a link; echo root >a/f")

    assert await hands("grep", pattern="root") == "/workspace/a/f:1:root"
    assert await hands("glob", pattern="**/f") == "/workspace/a/f"
    assert await hands("glob", pattern="a/b/up/a/f") == "/workspace/a/b/up/a/f"
    assert await hands("glob", pattern="a/etc/*") == "no matches"


async def test_what_vanishes_while_it_is_searched_is_passed_over(hands: Hands) -> None:
    churn = "(while :; do mkdir -p t/{1..30}; touch t/{1..30}/f; rm -rf t; done) >/dev/null 2>&1 & sleep 0.1"
    await hands("bash", command=churn)

    said = [
        (await hands(tool, pattern=pattern)) for _ in range(30) for tool, pattern in (("glob", "**/*"), ("grep", "x"))
    ]

    await hands("bash", command="kill %1; wait; rm -rf t")
    assert not [each for each in said if each.startswith("error")]
