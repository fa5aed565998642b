"""What the model is told of the sandbox's tools: the contract with the worker, which calls each with just these inputs.

Source: `agent_toolset_20260401`, as the SDK's own worker runs it (managed-agents-api.md, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping

from arrowslit.agents.models.model import JSON
from arrowslit.agents.servers.tool import ToolDefinition

_STRING, _BOOLEAN, _INTEGER = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
_PATH = {"file_path": {**_STRING, "description": "Relative to the working directory, or absolute within it."}}

_BASH = """\
Run a command in a persistent bash session: working directory and variables last from call to call. Both outputs come \
back merged, the last 100 KiB of them; a command that fails is an error result. A command that runs into its timeout \
(120 s unless timeout_ms says otherwise) or exits ends the shell: then call with {"restart": true} before the next \
command. Files that the session was given are in the first working directory; those to be kept belong into its folder \
outputs."""
_READ = """\
Read a file. view_range is [first line, last line], from 1 and inclusive; a last line of 0 or less means the end of \
the file. A file larger than 256 KiB needs it. Images and PDF files are shown."""
_WRITE = "Write a file, in place of what was there. Missing folders are made."
_EDIT = "Replace a string in a file. old_string has to stand there exactly once, unless replace_all is true."
_GLOB = "Find files by a relative pattern such as **/*.py: absolute paths, newest first, at most 200."
_GREP = "Search the contents of files with a regular expression: lines as path:line:text."


def _tool(name: str, description: str, properties: JSON, *required: str) -> ToolDefinition:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return ToolDefinition(name, description, schema)


SANDBOX: Mapping[str, ToolDefinition] = {
    tool.name: tool
    for tool in (
        _tool("bash", _BASH, {"command": _STRING, "restart": _BOOLEAN, "timeout_ms": _INTEGER}),
        _tool("read", _READ, {**_PATH, "view_range": {"type": "array", "items": _INTEGER}}, "file_path"),
        _tool("write", _WRITE, {**_PATH, "content": _STRING}, "file_path", "content"),
        _tool(
            "edit",
            _EDIT,
            {**_PATH, "old_string": _STRING, "new_string": _STRING, "replace_all": _BOOLEAN},
            "file_path",
            "old_string",
            "new_string",
        ),
        _tool("glob", _GLOB, {"pattern": _STRING, "path": _STRING}, "pattern"),
        _tool("grep", _GREP, {"pattern": _STRING, "path": _STRING}, "pattern"),
    )
}
"""By name, one for each of `agent.SANDBOX_TOOLS`."""
