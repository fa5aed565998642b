"""An MCP server (SDK 2.x) with everything that the official conformance suite asks of one, in both eras.

The suite fixes the names and what is behind them. The tools are in `everything_tools.py` and `everything_rounds.py`;
`everything_life.py` has some that tests of our own need.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import serving
from events import Events
from everything_life import LIFE, watched
from everything_rounds import CONTEXT, ROUNDS, given, still_missing
from everything_tools import IMAGE, PNG, TOOLS, Context, as_result, changes, embedded, unknown
from mcp import MCPError
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import ListenHandler
from mcp_types import (
    INVALID_PARAMS,
    BlobResourceContents,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    ContentBlock,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    Prompt,
    PromptArgument,
    PromptMessage,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    Tool,
    UnsubscribeRequestParams,
)

RETRY = 100  # milliseconds after which a client that was sent away comes back
ALL = TOOLS | ROUNDS | LIFE
HINT = CacheHint(ttl_ms=1000)

# ------------------------------------------------------------ tools


async def list_tools(_context: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
    tools = [
        Tool(name=name, description=tool.description, input_schema=dict(tool.schema)) for name, tool in ALL.items()
    ]
    return ListToolsResult(tools=tools)


async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
    if params.name not in ALL:
        raise unknown(f"tool {params.name}")
    return as_result(await ALL[params.name].work(context, params))


def input_schema(name: str) -> dict[str, Any] | None:
    return dict(ALL[name].schema) if name in ALL else None


# ------------------------------------------------------------ resources

TEXTS = {
    "test://static-text": "This is the content of the static text resource.",
    "test://watched-resource": "Watched resource content",
}
BINARY, TEMPLATE = "test://static-binary", "test://template/{id}/data"
_BEFORE, _, _AFTER = TEMPLATE.partition("{id}")


async def list_resources(_context: Context, _params: PaginatedRequestParams | None) -> ListResourcesResult:
    kinds = {**dict.fromkeys(TEXTS, "text/plain"), BINARY: "image/png"}
    return ListResourcesResult(
        resources=[
            Resource(uri=uri, name=uri.partition("://")[2], description=f"What is at {uri}", mime_type=kind)
            for uri, kind in kinds.items()
        ]
    )


async def list_templates(_context: Context, _params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
    template = ResourceTemplate(
        uri_template=TEMPLATE, name="template", description="Data of an id", mime_type="application/json"
    )
    return ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(_context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    uri = str(params.uri)
    if uri in TEXTS:
        return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type="text/plain", text=TEXTS[uri])])
    if uri == BINARY:
        return ReadResourceResult(contents=[BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)])
    if uri.startswith(_BEFORE) and uri.endswith(_AFTER):
        number = uri.removeprefix(_BEFORE).removesuffix(_AFTER)
        text = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
        return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type="application/json", text=text)])
    raise MCPError(INVALID_PARAMS, "Resource not found", {"uri": uri})


async def subscribe(_context: Context, params: SubscribeRequestParams) -> EmptyResult:
    watched.add(str(params.uri))
    return EmptyResult()


async def unsubscribe(_context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
    watched.discard(str(params.uri))
    return EmptyResult()


# ------------------------------------------------------------ prompts

PROMPTS: dict[str, list[str]] = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
    "test_input_required_result_prompt": [],
}


async def list_prompts(_context: Context, _params: PaginatedRequestParams | None) -> ListPromptsResult:
    return ListPromptsResult(
        prompts=[
            Prompt(
                name=name,
                description=f"The prompt {name}",
                arguments=[PromptArgument(name=argument, required=True) for argument in arguments],
            )
            for name, arguments in PROMPTS.items()
        ]
    )


async def get_prompt(_context: Context, params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
    said = params.arguments or {}
    match params.name:
        case "test_simple_prompt":
            return prompt(TextContent(text="This is a simple prompt for testing."))
        case "test_prompt_with_arguments":
            return prompt(
                TextContent(text=f"Prompt with arguments: arg1='{said.get('arg1')}', arg2='{said.get('arg2')}'")
            )
        case "test_prompt_with_embedded_resource":
            resource = embedded(said.get("resourceUri", ""), "text/plain", "Embedded resource content for testing.")
            return prompt(resource, TextContent(text="Please process the embedded resource above."))
        case "test_prompt_with_image":
            return prompt(IMAGE, TextContent(text="Please analyze the image above."))
        case "test_input_required_result_prompt":
            if still_missing(CONTEXT, params.input_responses):
                return InputRequiredResult(input_requests=dict(CONTEXT))
            context = given((params.input_responses or {})["user_context"])
            return prompt(TextContent(text=f"In the context of {context}"))
    raise unknown(f"prompt {params.name}")


def prompt(*contents: ContentBlock) -> GetPromptResult:
    return GetPromptResult(messages=[PromptMessage(role="user", content=content) for content in contents])


# ------------------------------------------------------------ the rest


async def complete(_context: Context, params: CompleteRequestParams) -> CompleteResult:
    found = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
    return CompleteResult(completion=Completion(values=found, total=len(found), has_more=False))


async def set_level(_context: Context, _params: SetLevelRequestParams) -> EmptyResult:
    """Every level is sent."""
    return EmptyResult()


server: Server[dict[str, Any]] = Server(
    "everything",
    version="1",
    cache_hints=dict.fromkeys(
        ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"), HINT
    ),
    get_tool_input_schema=input_schema,
    on_list_tools=list_tools,
    on_call_tool=call_tool,
    on_list_resources=list_resources,
    on_list_resource_templates=list_templates,
    on_read_resource=read_resource,
    on_subscribe_resource=subscribe,
    on_unsubscribe_resource=unsubscribe,
    on_subscriptions_listen=ListenHandler(changes),
    on_list_prompts=list_prompts,
    on_get_prompt=get_prompt,
    on_completion=complete,
    on_set_logging_level=set_level,
)
server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience="everything"))


class Everything:
    """Over stdio or HTTP, as `serving.main` runs it."""

    async def run_stdio_async(self) -> None:
        async with stdio_server() as (reader, writer):
            options = server.create_initialization_options(NotificationOptions(tools_changed=True))
            await server.run(reader, writer, options)

    def streamable_http_app(self) -> Any:
        return server.streamable_http_app(event_store=Events(), retry_interval=RETRY)


if __name__ == "__main__":
    logging.getLogger("mcp").setLevel(logging.ERROR)  # what it refuses, it is asked for on purpose
    serving.main(Everything(), http="h11")  # the other parser leaves the whitespace around the value of a header
