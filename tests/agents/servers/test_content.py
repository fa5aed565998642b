from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from arrowslit.agents.servers.content import KEPT, blocks

PNG = base64.b64encode(b"\x89PNG....").decode()


def shown(*content: object, **more: object) -> list[dict[str, Any]]:
    """The blocks of a result with this content."""
    return [dict(block) for block in blocks({"content": list(content), **more})]


def text(words: str) -> dict[str, object]:
    return {"type": "text", "text": words}


def image(data: str = PNG, media: str = "image/png") -> dict[str, object]:
    return {"type": "image", "data": data, "mimeType": media}


def test_text_stays_text_and_loses_what_only_servers_know() -> None:
    assert shown({**text("12"), "annotations": {"priority": 1}, "_meta": {"a": 1}}) == [text("12")]


def test_an_image_becomes_an_image() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PNG}

    assert shown(image()) == [{"type": "image", "source": source}]


@pytest.mark.parametrize(
    "block",
    [image(media="image/svg+xml"), image(data="no base64!"), image(data=""), image(data="AAA")],
    ids=["svg", "no base64", "empty", "half a byte"],
)
def test_what_no_model_takes_for_an_image_is_said_in_words(block: dict[str, object]) -> None:
    (said,) = shown(block)

    assert said["type"] == "text"
    assert "image not shown" in said["text"]


def test_a_resource_of_text_becomes_a_document() -> None:
    resource = {"uri": "file:///stock.csv", "mimeType": "text/csv", "text": "A100,12"}
    source = {"type": "text", "media_type": "text/plain", "data": "A100,12"}

    assert shown({"type": "resource", "resource": resource}) == [
        {"type": "document", "source": source, "title": "file:///stock.csv"}
    ]


def test_a_resource_of_pages_becomes_a_document_and_one_of_pixels_an_image() -> None:
    pdf, png = (
        {"type": "resource", "resource": {"uri": "file:///a", "mimeType": media, "blob": PNG}}
        for media in ("application/pdf", "image/png")
    )

    document, picture = shown(pdf, png)

    assert document == {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": PNG},
        "title": "file:///a",
    }
    assert picture["type"] == "image"
    assert "title" not in picture


def test_a_resource_of_other_bytes_is_said_in_words() -> None:
    (said,) = shown(
        {"type": "resource", "resource": {"uri": "file:///a", "mimeType": "application/zip", "blob": "A" * 99}}
    )

    assert "application/zip" in said["text"]
    assert "AAAA" not in said["text"]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "resource_link", "uri": "file:///a", "name": "a"},
        {"type": "text"},
        {"type": "text", "text": 7},
        {"type": "hologram", "x": [1]},
        {"type": "image", "source": "x"},
        {"type": "resource", "resource": {"uri": "file:///a"}},
    ],
)
def test_every_other_block_is_shown_as_it_is(block: dict[str, Any]) -> None:
    (said,) = shown(block)

    assert json.loads(said["text"]) == (block["resource"] if block["type"] == "resource" else block)


def test_a_block_that_is_none_is_shown_as_it_is() -> None:
    assert shown("plain", 7) == [text('"plain"'), text("7")]


def test_sound_is_described_and_not_spelled_out() -> None:
    (said,) = shown({"type": "audio", "mimeType": "audio/wav", "data": "A" * 1000})

    assert json.loads(said["text"])["mimeType"] == "audio/wav"
    assert "AAAA" not in said["text"]


def test_empty_texts_are_left_out_for_models_refuse_them() -> None:
    assert shown(text(""), text("a"), text("")) == [text("a")]


def test_structured_content_is_shown_where_there_is_no_other() -> None:
    assert shown(text("12 pieces"), structuredContent={"quantity": 12}) == [text("12 pieces")]
    assert shown(structuredContent={"quantity": 12}) == [text('{"quantity":12}')]
    assert blocks({"structuredContent": {"quantity": 12}}) == (text('{"quantity":12}'),)


def test_a_result_that_is_none_of_mcps_is_shown_as_it_is() -> None:
    assert blocks({"toolResult": 12, "_meta": {"a": 1}}) == (text('{"toolResult":12}'),)
    assert blocks({"content": "12"}) == (text('{"content":"12"}'),)
    assert blocks({}) == blocks({"content": []}) == ()


# ---------------------------------------------------------------- bounds


def size(shown: list[dict[str, Any]]) -> int:
    """Bytes of everything that a session would keep."""
    return len(json.dumps(shown, ensure_ascii=False).encode())


def test_a_long_text_is_cut_and_says_so() -> None:
    (said,) = shown(text("ü" * KEPT))

    assert said["text"].startswith("üüü")
    assert "[cut: " in said["text"][-100:]
    assert KEPT * 0.99 < size([said]) < KEPT + 1000


def test_a_long_document_is_cut_and_stays_a_document() -> None:
    (said,) = shown({"type": "resource", "resource": {"uri": "file:///a", "text": "x" * (KEPT * 2)}})

    assert (said["type"], said["title"]) == ("document", "file:///a")
    assert "[cut: " in said["source"]["data"][-100:]
    assert size([said]) < KEPT + 1000


def test_a_large_image_is_left_out_as_a_whole_and_what_follows_is_still_there() -> None:
    first, second = shown(image("A" * (KEPT + 4)), text("after it"))

    assert "image not shown" in first["text"]
    assert second == text("after it")


@pytest.mark.parametrize("block", [text("x" * 300_000), text("x"), image("A" * 400_000), text("")])
def test_many_blocks_are_bounded_together(block: dict[str, object]) -> None:
    said = shown(*[block] * (20_000 if size([block]) < 100 else 20))

    assert size(said) < KEPT * 1.1
    assert not said or any(words in said[-1]["text"] for words in ("content was left out", "image not shown"))
