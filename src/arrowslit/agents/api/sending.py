"""The shapes of events that can be sent to a session, official ones, and from a request's body to `SentEvent`s."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request

from arrowslit.agents.api.reading import parse, to_shape
from arrowslit.agents.api.schema import Strict
from arrowslit.agents.sessions.inbox import SentEvent
from arrowslit.errors import Error

MAX_BODY = 8 * 1024 * 1024  # bytes; the largest picture that a sandbox's `read` returns has 5 MiB
MAX_EVENTS = 50  # of one request, as officially at the creation of a session

_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

EventId = Annotated[str, Meta(min_length=1, max_length=128)]
Url = Annotated[str, Meta(pattern=r"^https?://", max_length=2048)]


class Block(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A block of content or a part of one. What was not sent is not stored."""


class Base64Source(Block, tag="base64"):
    """The bytes themselves."""

    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"]
    data: Annotated[str, Meta(min_length=1)]

    def __post_init__(self) -> None:
        try:
            base64.b64decode(self.data, validate=True)
        except binascii.Error as error:
            raise ValueError("data is not base64") from error


class TextSource(Block, tag="text"):
    """A document of plain text."""

    media_type: Literal["text/plain"]
    data: str


class UrlSource(Block, tag="url"):
    """Something that the model's provider fetches."""

    url: Url


class FileSource(Block, tag="file"):
    """Official; there are no files here."""

    file_id: str


class Text(Block, tag="text"):
    """Text."""

    text: str


class Image(Block, tag="image"):
    """A picture."""

    source: Base64Source | UrlSource | FileSource


class Document(Block, tag="document"):
    """A document."""

    source: Base64Source | TextSource | UrlSource | FileSource
    title: str | None = None
    context: str | None = None


class Citations(Block):
    """Whether the model may cite from a search result."""

    enabled: bool


class SearchResult(Block, tag="search_result"):
    """What a search found."""

    source: str
    title: str
    content: Annotated[list[Text], Meta(max_length=256)]
    citations: Citations


Said = Annotated[list[Text | Image | Document], Meta(min_length=1, max_length=256)]
Returned = Annotated[list[Text | Image | Document | SearchResult], Meta(max_length=256)]


class UserMessage(Strict, tag="user.message"):
    """Something that a user says."""

    content: Said


class UserInterrupt(Strict, tag="user.interrupt"):
    """End the turn now."""

    session_thread_id: str | None = None


class ToolConfirmation(Strict, tag="user.tool_confirmation"):
    """Whether a tool call may run."""

    tool_use_id: EventId
    result: Literal["allow", "deny"]
    deny_message: Annotated[str, Meta(max_length=4096)] | None = None


class ToolResult(Strict, tag="user.tool_result"):
    """What a tool of the sandbox returned."""

    tool_use_id: EventId
    content: Returned | None = None
    is_error: bool | None = None


class CustomToolResult(Strict, tag="user.custom_tool_result"):
    """What a tool of the application returned."""

    custom_tool_use_id: EventId
    content: Returned | None = None
    is_error: bool | None = None


class SystemMessage(Strict, tag="system.message"):
    """Something that the application says for this turn and those that follow."""

    content: Annotated[list[Text], Meta(min_length=1, max_length=256)]


class DefineOutcome(Struct, tag="user.define_outcome"):
    """Official; there are no outcomes here, so that whatever it says is refused."""


AnyEvent = (
    UserMessage | UserInterrupt | ToolConfirmation | ToolResult | CustomToolResult | SystemMessage | DefineOutcome
)
Events = Annotated[list[AnyEvent], Meta(max_length=MAX_EVENTS)]


class SendBody(Strict):
    """POST /v1/sessions/{id}/events."""

    events: Annotated[list[AnyEvent], Meta(min_length=1, max_length=MAX_EVENTS)]


async def read_sent(request: Request, *, from_worker: bool) -> SendBody:
    """The body of a request that sends events. It may be larger than others, for results hold files and pictures.

    A NUL that a sandbox's command printed becomes U+FFFD: refusing it would leave the call without a result for ever.
    Raises Error as `reading.read_body` does.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise Error("payload_too_large", "the body is larger than 8 MiB")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Error("media_type_unsupported", "the body is not JSON", hint="send content-type: application/json")
    return to_shape(parse(_NUL.sub(rb"\1\\ufffd", body) if from_worker else bytes(body)), SendBody)


def as_sent(events: Sequence[AnyEvent], new_id: Callable[[], str]) -> list[SentEvent]:
    """The events with the ids that they get if they are kept. Raises Error `not_supported` or `validation_error`."""
    return [_as_sent(event, new_id()) for event in events]


def _as_sent(event: AnyEvent, event_id: str) -> SentEvent:
    if isinstance(event, DefineOutcome):
        raise Error("not_supported", "outcomes are not supported", hint="leave user.define_outcome out")
    if isinstance(event, UserInterrupt) and event.session_thread_id is not None:
        raise Error("not_supported", "a session has one thread only", hint="leave session_thread_id out")
    if isinstance(event, ToolConfirmation) and event.result == "allow" and event.deny_message is not None:
        raise Error("validation_error", "a deny_message comes with a denial only", hint="leave it out")
    content = event.content if isinstance(event, UserMessage | ToolResult | CustomToolResult) else None
    for block in content or []:
        _check_block(block)
    body = msgspec.to_builtins(event)
    type_ = body.pop("type")
    if isinstance(event, UserInterrupt):
        del body["session_thread_id"]
    return SentEvent(event_id, type_, body)


def _check_block(block: Text | Image | Document | SearchResult) -> None:
    source = block.source if isinstance(block, Image | Document) else None
    if isinstance(source, FileSource):
        raise Error("not_supported", "there are no files here", hint="send the content itself as base64 or text")
    if isinstance(source, Base64Source) and (source.media_type == "application/pdf") is not isinstance(block, Document):
        raise Error("validation_error", "a document is a PDF or text, and an image is a picture")
