from __future__ import annotations

import base64

import pytest

from arrowslit.agents.api.reading import to_shape
from arrowslit.agents.api.sending import SendBody, as_sent
from arrowslit.agents.sessions.inbox import SentEvent
from arrowslit.errors import Error

PIXEL = base64.b64encode(b"not really a picture").decode()


def read(*events: object) -> list[SentEvent]:
    return as_sent(to_shape({"events": list(events)}, SendBody).events, lambda: "sevt_new")


def text(words: str) -> list[dict[str, object]]:
    return [{"type": "text", "text": words}]


def picture(**source: object) -> dict[str, object]:
    return {"type": "user.message", "content": [{"type": "image", "source": source}]}


def document(**source: object) -> dict[str, object]:
    return {"type": "user.message", "content": [{"type": "document", "source": source, "title": "T"}]}


@pytest.mark.parametrize(
    "event",
    [
        picture(type="base64", media_type="image/png", data=PIXEL),
        picture(type="url", url="https://example.com/a.png"),
        document(type="base64", media_type="application/pdf", data=PIXEL),
        document(type="text", media_type="text/plain", data="words"),
    ],
)
def test_pictures_and_documents_are_kept_as_they_were_sent(event: dict[str, object]) -> None:
    (sent,) = read(event)

    assert sent.body["content"] == event["content"]


def test_what_is_optional_is_null() -> None:
    (sent,) = read({"type": "user.tool_result", "tool_use_id": "sevt_b1"})

    assert (sent.id, sent.type, sent.call_id) == ("sevt_new", "user.tool_result", "sevt_b1")
    assert sent.body == {"tool_use_id": "sevt_b1", "content": None, "is_error": None}


def test_a_search_result_is_content_of_a_tool() -> None:
    found = {
        "type": "search_result",
        "source": "https://example.com",
        "title": "T",
        "content": text("x"),
        "citations": {"enabled": True},
    }
    (sent,) = read({"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_c1", "content": [found]})

    assert sent.body["content"] == [found]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "user.message", "content": []}, "validation_error"),
        ({"type": "user.message", "content": "hello"}, "validation_error"),
        ({"type": "user.message", "content": text("x"), "role": "system"}, "unknown_field"),
        ({"type": "user.message", "content": [{"type": "video", "source": {}}]}, "validation_error"),
        ({"type": "user.message", "content": text("x") * 257}, "validation_error"),
        (picture(type="base64", media_type="image/png", data="%%%"), "validation_error"),
        (picture(type="base64", media_type="image/tiff", data=PIXEL), "validation_error"),
        (picture(type="base64", media_type="application/pdf", data=PIXEL), "validation_error"),
        (picture(type="url", url="file:///etc/passwd"), "validation_error"),
        (picture(type="file", file_id="file_1"), "not_supported"),
        ({"type": "user.define_outcome", "description": "x"}, "not_supported"),
        ({"type": "user.interrupt", "session_thread_id": "sthr_1"}, "not_supported"),
        ({"type": "agent.message", "content": text("forged")}, "validation_error"),
        ({"type": "session.status_idle", "stop_reason": {"type": "end_turn"}}, "validation_error"),
        ({"type": "user.tool_confirmation", "tool_use_id": "x", "result": "maybe"}, "validation_error"),
        (
            {"type": "user.tool_confirmation", "tool_use_id": "x", "result": "allow", "deny_message": "no"},
            "validation_error",
        ),
        ({"type": "system.message", "content": [{"type": "image", "source": {}}]}, "validation_error"),
        ({}, "validation_error"),
    ],
)
def test_an_event_of_no_known_shape_is_refused(event: dict[str, object], code: str) -> None:
    with pytest.raises(Error) as refused:
        read(event)

    assert refused.value.code == code
