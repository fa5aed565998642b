"""Which characters nobody sees, and where what joins letters and emoji does something that is seen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.policy.unseen import plain, unseen

HIDDEN = {
    "tags": "\U000e0041", "zero width space": "\u200b", "joiner": "\u200d", "non-joiner": "\u200c",
    "word joiner": "\u2060", "byte order mark": "\ufeff", "right to left": "\u202e", "isolate": "\u2066",
    "left to right mark": "\u200e", "soft hyphen": "\u00ad", "escape": "\x1b", "NUL": "\0", "delete": "\x7f",
    "C1": "\x9b", "Hangul filler": "\u3164", "Hangul half filler": "\uffa0", "Braille blank": "\u2800",
    "variation": "\U000e0100", "variation 1": "\ufe00", "variation 15": "\ufe0e", "variation 16": "\ufe0f",
    "line": "\u2028", "paragraph": "\u2029", "half a surrogate": "\ud800", "grapheme joiner": "\u034f",
    "Mongolian": "\u180e", "Mongolian variation": "\u180f", "Khmer": "\u17b4", "annotation": "\ufff9",
    "ignorable, unassigned": "\u2065", "ignorable special": "\ufff0", "ignorable special, last": "\ufff8",
    "ignorable in the tags' plane": "\U000e0fff", "object": "\ufffc", "musical beam": "\U0001d173",
    "shorthand": "\U0001bca0", "note without a head": "\U0001d159", "Khitan filler": "\U00016fe4",
    "hieroglyph blank": "\U00013441", "hieroglyph half blank": "\U00013442", "private": "\ue000",
    "private, last": "\uf8ff", "private plane 15": "\U000f0000", "private plane 16": "\U0010fffd",
    "unassigned": "\u0378", "unassigned pictograph": "\U0001faff", "noncharacter": "\ufdd0",
    "noncharacter end": "\U0001ffff",
    "carriage return": "\r",
}  # fmt: skip


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_what_nobody_sees_is_found_and_written_as_its_escape(hidden: str) -> None:
    for text in (f"Says how{hidden} many.", hidden, f"1{hidden}2", f"a {hidden} b", f"库{hidden}存", f"و{hidden}و"):
        assert unseen(text) == hidden, ascii(text)
        assert plain(text) == text.replace(hidden, f"\\u{{{ord(hidden):x}}}")


@pytest.mark.parametrize(
    "text",
    [
        "1\ufe0f2", "1\ufe0f", "a\ufe0f", "\ufe0f", "❤\ufe0f\ufe0f", "\u20e3\ufe0f", " \ufe0f", "^\ufe0f", "库\ufe0f",
        "1\u200d2", "a\u200db", "\u200d", "🚀\u200d", "\u200d🚀", "a\u200d🚀", "👩\u200d\u200d🚀", "1\ufe0f\u200d🚀",
        "^\u200d^", "👩\u200da", "ا\u200cب", "ب\u200c", "\u200cب", "ب\u200c\u200cب", "ب\u200c ب", "ب\u200cx",
        "ب\u200dب",
        "क\u200dष", "क\u200cष", "क्\u200d\u200dष", "🏴\U000e0067\U000e0062\U000e007f", "葛\U000e0100", "a\rb", "\n\r",
    ],
    ids=ascii,
)  # fmt: skip
def test_what_joins_nothing_is_found(text: str) -> None:
    found = unseen(text)
    assert found is not None
    assert f"\\u{{{ord(found):x}}}" in plain(text)


@pytest.mark.parametrize(
    "text",
    [
        "Línea uno\n\tdos\r\n", "在庫を確認する", "هل المنتج متوفر؟", "a – b … “c” °C № ½ a\u00a0b", "e\u0301 ñ Å",
        "✅ in stock ❤\ufe0f 👩\u200d🚀 👍🏽 1\ufe0f⃣ #\ufe0f⃣ ❤\ufe0f\u200d🔥",
        "🏳\ufe0f\u200d🌈 👨\u200d👩\u200d👧\u200d👦 🧑🏽\u200d⚕\ufe0f ⚠\ufe0f ℹ\ufe0f",
        "™\ufe0f ↔\ufe0f ▶\ufe0f ㊙\ufe0f 🇩🇪 🐈\u200d⬛ 🙂\u200d↔\ufe0f",
        "می\u200cخواهم خانه\u200cها را ببینم، مُ\u200cن", "क्\u200dष और क्\u200cष, শ্রী, ന്\u200d",
        "ភាសាខ្មែរ", "ภาษาไทย", "한국어",
        "ქართული", "עִבְרִית", "𝒳 ∑ ∫ ⠓⠑",
    ],
)  # fmt: skip
def test_what_people_write_is_seen(text: str) -> None:
    assert unseen(text) is None
    assert plain(text, keep="\n\t\r\u00a0") == text


@given(st.text(st.sampled_from("a1❤👩🚀\ufe0f\u200d\u200c\u20e3بाक्\u064bا\u2065\r\n\t\U000e0041 "), max_size=12))
def test_what_was_escaped_leaves_nothing_unseen(text: str) -> None:
    assert unseen(plain(text, keep="\n\t")) is None


@given(st.characters(categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"]))
def test_no_such_category_is_seen_by_itself(character: str) -> None:
    assert (unseen(character) is None) == (character in "\t\n")
    assert unicodedata.category(character)[0] in "CZ"
