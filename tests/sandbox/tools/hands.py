"""Hands: the tools of a sandbox, called as the worker calls them."""

from __future__ import annotations

from arrowslit.sandbox.isolation.isolation import Sandbox
from arrowslit.sandbox.tools.tool import Block, ToolError
from arrowslit.sandbox.tools.tools import tools


class Hands:
    """All tools of one sandbox. A call answers with the text of the result, an error's behind `error: `."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.tools = {tool.name: tool for tool in tools(sandbox)}

    async def blocks(self, tool: str, **given: object) -> list[Block]:
        """The blocks of a result. Raises ToolError."""
        return list(await self.tools[tool].call(given))

    async def __call__(self, tool: str, **given: object) -> str:
        try:
            [block] = await self.blocks(tool, **given)
        except ToolError as error:
            return f"error: {error}"
        return str(block["text"])

    async def close(self) -> None:
        """End what they started."""
        for tool in self.tools.values():
            await tool.close()
