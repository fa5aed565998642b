"""Our tools beside the SDK's own, which runs on a temporary folder of this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from anthropic.lib.tools._beta_functions import aclose_runnable_tool
from anthropic.lib.tools._beta_session_runner import _to_session_content
from anthropic.lib.tools._tool_dispatch import run_runnable_tool, tool_error_content
from anthropic.lib.tools.agent_toolset import AgentToolContext, beta_agent_toolset_20260401

from arrowslit.sandbox.isolation.isolation import BASE_ENVIRONMENT
from arrowslit.sandbox.tools.inputs import SCHEMAS
from arrowslit.sandbox.tools.tool import ToolError
from tests.sandbox.tools.cases import SAME, Case
from tests.sandbox.tools.differences import DIFFERENT, Difference
from tests.sandbox.tools.hands import Hands

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Theirs:
    """The SDK's tools, as its worker calls them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        context = AgentToolContext(folder, env={**BASE_ENVIRONMENT, "HOME": str(folder)})
        self._tools = {tool.name: tool for tool in beta_agent_toolset_20260401(context)}

    async def result(self, tool: str, given: Mapping[str, Any]) -> list[Any]:
        """The content that its worker sends."""
        try:
            content = await run_runnable_tool(self._tools[tool], dict(given))
            failed = False
        except Exception as error:
            content, failed = tool_error_content(error), True
        return [failed, *(self._alike(block) for block in _to_session_content(content)[0])]

    def _alike(self, block: Any) -> Any:
        return (
            alike({**block, "text": block["text"].replace(str(self._folder), "/workspace")})
            if "text" in block
            else block
        )

    async def close(self) -> None:
        await aclose_runnable_tool(self._tools["bash"])


async def ours(hands: Hands, tool: str, given: Mapping[str, Any]) -> list[Any]:
    try:
        return [False, *map(alike, await hands.blocks(tool, **given))]
    except ToolError as error:
        return [True, alike({"type": "text", "text": str(error)})]


def alike(block: Any) -> Any:
    """Without what differs from run to run: how far a shell has counted its lines, and which process was killed."""
    return {**block, "text": re.sub(r"\bline \d+| +\d+ Killed", "n", block["text"])} if "text" in block else block


@pytest.fixture(autouse=True)
def without_ripgrep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's grep is compared as it is without ripgrep, whose expressions and order are others than Python's."""
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *more: None if "rg" in name else which(name, *more))


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in SAME.items()])
async def test_our_tools_say_what_the_sdk_says(case: Case, hands: Hands, tmp_path: Path) -> None:
    theirs = await prepared(case.before, hands, tmp_path)

    for tool, given in case.calls:
        said = await ours(hands, tool, given)
        expected = await theirs.result(tool, given)
        if case.unordered:
            said, expected = by_line(said), by_line(expected)
        assert said == expected, (tool, given)
    await theirs.close()


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in DIFFERENT.items()])
async def test_where_our_tools_differ_they_do_so_on_purpose(case: Difference, hands: Hands, tmp_path: Path) -> None:
    theirs = await prepared(case.before, hands, tmp_path)

    for tool, given in case.calls[:-1]:
        assert await ours(hands, tool, given) == await theirs.result(tool, given)
    tool, given = case.calls[-1]
    said, expected = await ours(hands, tool, given), await theirs.result(tool, given)
    await theirs.close()

    assert ("error: " if said[0] else "") + said[1]["text"] == case.ours
    assert case.by_chance or said != expected


@pytest.mark.parametrize("tool", SCHEMAS)
async def test_the_schemas_are_the_sdks(tool: str) -> None:
    theirs = {each.name: each for each in beta_agent_toolset_20260401(AgentToolContext("/"))}[tool].to_dict()
    schema: dict[str, Any] = dict(theirs["input_schema"])

    properties = {name: plain(each) for name, each in schema["properties"].items()}

    assert SCHEMAS[tool]["properties"] == properties
    assert sorted(SCHEMAS[tool]["required"]) == sorted(schema.get("required", []))  # type: ignore[call-overload]


def plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Without titles, and without the null that stands for what was left out."""
    [kind] = [each for each in schema.get("anyOf", [schema]) if each["type"] != "null"]
    return {name: value for name, value in kind.items() if name in ("type", "items")}


async def prepared(before: str, hands: Hands, folder: Path) -> Theirs:
    """Both folders as a case wants them."""
    run(before, folder)
    assert not (await hands("bash", command=f"({before})")).startswith("error")
    await hands("bash", restart=True)
    return Theirs(folder)


def run(script: str, folder: Path) -> None:
    subprocess.run(["/bin/bash", "-c", script], cwd=folder, check=True, timeout=10)


def by_line(result: list[Any]) -> list[Any]:
    return [result[0], *(sorted(block["text"].split("\n")) for block in result[1:])]
