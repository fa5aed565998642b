"""Tool: what the worker calls when an agent uses one; and ToolError, how it says that it did not succeed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Block = dict[str, Any]
"""A content block of a result, as the API takes it: text, image or document."""

FAILED, TIMED_OUT = "error", "timeout"  # how a use of a tool ends that does not succeed, if the sandbox lives
NO_OUTPUT = "(no output)"  # a text block may not be empty


class ToolError(Exception):
    """The result is an error; the text is for the model. `status` is that of the command where it is known, `ended`
    how the use of the tool ended: FAILED or TIMED_OUT.
    """

    def __init__(self, said: str, *, status: int | None = None, ended: str = FAILED) -> None:
        super().__init__(said)
        self.status = status
        self.ended = ended


class Tool(Protocol):
    """One of the tools, in the sandbox of one session."""

    @property
    def name(self) -> str:
        """As the model calls it."""
        ...

    @property
    def input_schema(self) -> Mapping[str, object]:
        """The JSON Schema of its input."""
        ...

    async def call(self, input: Mapping[str, object]) -> Sequence[Block]:
        """Use it: one block or more. Raises ToolError, Error `sandbox_ended`. Cancelled, it stops what it began."""
        ...

    async def close(self) -> None:
        """Let go of its process inside, which may be gone already. A later call starts another."""
        ...


def text(said: str) -> list[Block]:
    """A result of text."""
    return [{"type": "text", "text": said or NO_OUTPUT}]
