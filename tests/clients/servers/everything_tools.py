"""The tools of `everything.py`: each does what a scenario of the conformance suite asks of a tool with its name."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolRequestParams,
    CallToolResult,
    ClientCapabilities,
    ContentBlock,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    SamplingCapability,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)

warnings.simplefilter("ignore", MCPDeprecationWarning)  # sampling and logs are of the older era, which is served too

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="
STEP = 0.05  # seconds between two notifications of one tool, as the suite asks

Context = ServerRequestContext[Any, Any]
Answer = str | ContentBlock | list[ContentBlock] | CallToolResult | InputRequiredResult
Work = Callable[[Context, CallToolRequestParams], Awaitable[Answer]]

changes = InMemorySubscriptionBus()


@dataclass(frozen=True, slots=True)
class Offered:
    """One tool: what a list shows of it, and what it does."""

    description: str
    work: Work
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


def text(name: str) -> dict[str, Any]:
    """The schema of a tool with one argument, a text."""
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}


def says(answer: Answer) -> Work:
    """A tool that always gives the same answer."""

    async def work(_context: Context, _params: CallToolRequestParams) -> Answer:
        return answer

    return work


def embedded(uri: str, media_type: str, content: str) -> EmbeddedResource:
    """A resource within a content."""
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=media_type, text=content))


# ------------------------------------------------------------ both eras


async def logging_tool(context: Context, _params: CallToolRequestParams) -> Answer:
    """Three log messages; the SDK leaves them out where the request did not ask for any."""
    for data in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.session.send_log_message("info", data, related_request_id=context.request_id)
        await asyncio.sleep(STEP)
    return "three messages were logged"


async def progress(context: Context, _params: CallToolRequestParams) -> Answer:
    for percent in (0, 50, 100):
        await context.session.report_progress(percent, 100)
        await asyncio.sleep(STEP)
    return "progress was reported"


async def headers(_context: Context, params: CallToolRequestParams) -> Answer:
    return json.dumps(params.arguments or {})


async def tools_changed(context: Context, _params: CallToolRequestParams) -> Answer:
    """Tell those who listen, in the way of either era."""
    await changes.publish(ToolsListChanged())
    if context.session.can_send_request:
        await context.session.send_tool_list_changed()
    return "the list of tools was said to have changed"


async def prompts_changed(_context: Context, _params: CallToolRequestParams) -> Answer:
    await changes.publish(PromptsListChanged())
    return "the list of prompts was said to have changed"


async def missing_capability(context: Context, _params: CallToolRequestParams) -> Answer:
    """Ask for nothing, but insist that the client could sample."""
    if not context.session.check_client_capability(ClientCapabilities(sampling=SamplingCapability())):
        needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "this tool needs a client that samples", needed)
    return "the client samples"


# ------------------------------------------------------------ the era with sessions


async def sampling(context: Context, params: CallToolRequestParams) -> Answer:
    asked = SamplingMessage(role="user", content=TextContent(text=str((params.arguments or {}).get("prompt"))))
    result = await context.session.create_message([asked], max_tokens=100, related_request_id=context.request_id)
    said = result.content.text if isinstance(result.content, TextContent) else "nothing that can be read"
    return f"LLM response: {said}"


def form(message: str | None, properties: Mapping[str, Any], required: list[str]) -> Work:
    """A tool that shows the user a form, with `message` or else the argument of that name."""

    async def work(context: Context, params: CallToolRequestParams) -> Answer:
        asked = message or str((params.arguments or {}).get("message"))
        schema = {"type": "object", "properties": dict(properties), "required": required}
        given: ElicitResult = await context.session.elicit_form(asked, schema, context.request_id)
        return f"User response: action={given.action}, content={json.dumps(given.content)}"

    return work


async def reconnection(context: Context, _params: CallToolRequestParams) -> Answer:
    """Close the stream in the middle of the call: the client has to come back for the answer."""
    if context.close_sse_stream is not None:
        await context.close_sse_stream()
    await asyncio.sleep(4 * STEP)
    return "the answer that was fetched later"


CONTACT = {"username": {"type": "string"}, "email": {"type": "string"}}
DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
PLAIN = ["option1", "option2", "option3"]
TITLED = [{"const": f"value{number}", "title": f"Choice {number}"} for number in (1, 2, 3)]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": PLAIN},
    "titledSingle": {"type": "string", "oneOf": TITLED},
    "legacyEnum": {"type": "string", "enum": PLAIN, "enumNames": ["Option One", "Option Two", "Option Three"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": PLAIN}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}

RICH_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
MIRRORED = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}},
    "required": ["region"],
}

IMAGE, AUDIO = ImageContent(data=PNG, mime_type="image/png"), AudioContent(data=WAV, mime_type="audio/wav")
ALL_KINDS: list[ContentBlock] = [
    TextContent(text="Multiple content types test:"),
    IMAGE,
    embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
]
FAILED = CallToolResult(
    is_error=True, content=[TextContent(text="This tool intentionally returns an error for testing")]
)

TOOLS: dict[str, Offered] = {
    "test_simple_text": Offered("A text", says("This is a simple text response for testing.")),
    "test_image_content": Offered("An image", says(IMAGE)),
    "test_audio_content": Offered("A sound", says(AUDIO)),
    "test_embedded_resource": Offered(
        "A resource", says(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."))
    ),
    "test_multiple_content_types": Offered("Text, image and resource", says(ALL_KINDS)),
    "test_error_handling": Offered("Always fails", says(FAILED)),
    "test_tool_with_logging": Offered("Logs while it works", logging_tool),
    "test_logging_tool": Offered("Logs only if it was asked to", logging_tool),
    "test_tool_with_progress": Offered("Reports its progress", progress),
    "test_custom_headers": Offered("Has an argument that a header repeats", headers, MIRRORED),
    "test_trigger_tool_change": Offered("Says that the tools changed", tools_changed),
    "test_trigger_prompt_change": Offered("Says that the prompts changed", prompts_changed),
    "test_missing_capability": Offered("Insists on a client that samples", missing_capability),
    "test_streaming_elicitation": Offered("Reports its progress, and asks nobody", progress),
    "json_schema_2020_12_tool": Offered("Has a schema with everything in it", headers, RICH_SCHEMA),
    "test_sampling": Offered("Asks the client's model", sampling, text("prompt")),
    "test_elicitation": Offered("Asks the user", form(None, CONTACT, [*CONTACT]), text("message")),
    "test_elicitation_sep1034_defaults": Offered("Suggests answers", form("Please look it over", DEFAULTS, [])),
    "test_elicitation_sep1330_enums": Offered("Offers choices", form("Please choose", ENUMS, [])),
    "test_reconnection": Offered("Closes the stream before it answers", reconnection),
}


def as_result(answer: Answer) -> CallToolResult | InputRequiredResult:
    """What a tool gave, as the SDK wants it."""
    if isinstance(answer, CallToolResult | InputRequiredResult):
        return answer
    if isinstance(answer, str):
        return CallToolResult(content=[TextContent(text=answer)])
    return CallToolResult(content=answer if isinstance(answer, list) else [answer])


def unknown(name: str) -> MCPError:
    """What whoever asks for something else is told."""
    return MCPError(INVALID_PARAMS, f"there is no {name}")
