"""PURE: what each tool takes, for the model as a schema and for us as a check.

Source: `agent_toolset_20260401` (managed-agents-api.md, section 4). Like the SDK's, the check reads a number or a truth
value that comes as a string, and refuses an argument that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from arrowslit.sandbox.tools.tool import ToolError


class Bash(Struct, frozen=True, forbid_unknown_fields=True):
    """A command, or a new shell."""

    command: str | None = None
    restart: bool | None = None
    timeout_ms: int | None = None


class Read(Struct, frozen=True, forbid_unknown_fields=True):
    """A file, or some of its lines."""

    file_path: str
    view_range: list[int] | None = None


class Write(Struct, frozen=True, forbid_unknown_fields=True):
    """A file's new content."""

    file_path: str
    content: str


class Edit(Struct, frozen=True, forbid_unknown_fields=True):
    """A string of a file, and what is to stand there."""

    file_path: str
    old_string: str
    new_string: str
    replace_all: bool | None = None


class Search(Struct, frozen=True, forbid_unknown_fields=True):
    """A pattern, and the folder to look in."""

    pattern: str
    path: str | None = None


Input = Bash | Read | Write | Edit | Search

_SHAPES: Mapping[str, type[Input]] = {
    "bash": Bash,
    "read": Read,
    "write": Write,
    "edit": Edit,
    "glob": Search,
    "grep": Search,
}
_STRING, _BOOLEAN, _INTEGER = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
_PROPERTIES: Mapping[str, dict[str, Any]] = {
    "bash": {"command": _STRING, "restart": _BOOLEAN, "timeout_ms": _INTEGER},
    "read": {"file_path": _STRING, "view_range": {"type": "array", "items": _INTEGER}},
    "write": {"file_path": _STRING, "content": _STRING},
    "edit": {"file_path": _STRING, "old_string": _STRING, "new_string": _STRING, "replace_all": _BOOLEAN},
    "glob": {"pattern": _STRING, "path": _STRING},
    "grep": {"pattern": _STRING, "path": _STRING},
}


def _schema(tool: str) -> Mapping[str, object]:
    required = [field.name for field in msgspec.structs.fields(_SHAPES[tool]) if field.required]
    schema = {"type": "object", "properties": _PROPERTIES[tool], "required": required}
    return MappingProxyType(schema)


SCHEMAS: Mapping[str, Mapping[str, object]] = {tool: _schema(tool) for tool in _SHAPES}
"""By tool, the JSON Schema of its input."""


def check(tool: str, given: Mapping[str, object]) -> Input:
    """The input of a tool. Raises ToolError with the SDK's text, which is an exception as Python shows it."""
    try:
        return msgspec.convert(dict(given), _SHAPES[tool], strict=False)
    except msgspec.ValidationError:
        raise ToolError(f"ValueError('Invalid arguments for function {tool}')") from None


def arguments(found: Input) -> dict[str, object]:
    """What was given of it."""
    return {name: value for name, value in msgspec.structs.asdict(found).items() if value is not None}
