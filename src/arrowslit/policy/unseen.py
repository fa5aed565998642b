"""Characters that a person does not see, or that change the order of what they see: which they are, and where they do
no harm.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, format characters (zero widths, marks of direction, tags), half surrogates, private use, unassigned, and
two line ends of Unicode's own. What is assigned depends on the Unicode of Python's `unicodedata`: 14.0 in 3.11, 15.0 in
3.12, 15.1 in 3.13. A character that is newer than that is taken for one that nobody sees."""

_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""The property Default_Ignorable_Code_Point, which `unicodedata` does not have: from DerivedCoreProperties.txt of the
Unicode Character Database, version 14.0 to 17.0 (the same in all of them)."""

_BLANK = frozenset("\u2800\ufffc\U00013441\U00013442\U00016fe4\U0001d159")
"""Letters and symbols that are drawn as nothing: a Braille cell without dots, the place of an object, two blanks among
hieroglyphs, a filler of the Khitan script, a note without a head."""

_PICTOGRAPH = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a-\u23ff\u24c2\u25aa\u25ab\u25b6\u25c0"
    "\u25fb-\u25fe\u2600-\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299"
    "\U0001f000-\U0001faff]"
)
"""What an emoji is made of, a little more generously than Extended_Pictographic in emoji-data.txt (Unicode 15.1)."""

_JOINED_FOLLOWING = re.compile(
    "[\u0620\u0626\u0628\u062a-\u062e\u0633-\u063f\u0641-\u0647\u0649\u064a\u066e\u066f\u0678-\u0687\u069a-\u06bf"
    "\u06c1\u06c2\u06cc\u06ce\u06d0\u06d1\u06fa-\u06fc\u06ff]"
)
"""Letters of the block Arabic that are drawn otherwise when a letter follows: Joining_Type D in DerivedJoiningType.txt
(Unicode 14.0)."""

_ARABIC_LETTER = re.compile("[\u0620-\u063f\u0641-\u064a\u066e-\u06d3\u06d5\u06ee\u06ef\u06fa-\u06ff]")
_ARABIC_MARKS = "".join(map(chr, range(0x64B, 0x660))) + "\u0670"
_MOST_MARKS = 3  # that stand on one letter


def unseen(text: str) -> str | None:
    """The first character of `text` that a person does not see, or that changes the order of what they see.

    Not among them are a tab, a line end, and what has an effect that is seen where it stands: U+FE0F and U+200D in an
    emoji, U+200C between Arabic letters that it keeps from joining, and both joiners after the sign of an Indic script
    that takes the vowel away (RFC 5892, appendix A).
    """
    return next((text[at] for at in _hidden(text)), None)


def plain(text: str, keep: str = "") -> str:
    """`text` with an escape for whatever a terminal would not show as itself, but for what is in `keep`."""
    if text.isprintable() and unseen(text) is None:
        return text
    hidden = set(_hidden(text))
    return "".join(
        each
        if each in keep or (at not in hidden and (each.isprintable() or each in "\u200c\u200d"))
        else f"\\u{{{ord(each):x}}}"
        for at, each in enumerate(text)
    )


def _hidden(text: str) -> Iterator[int]:
    """The places of such characters."""
    if text.isascii() and text.isprintable():
        return
    suspects = frozenset(each for each in set(text) if _may_hide(each))
    if not suspects:
        return
    for at, character in enumerate(text):
        if character in suspects and not _is_of_use(text, at):
            yield at


def _may_hide(character: str) -> bool:
    return (
        unicodedata.category(character) in _CATEGORIES or character in _BLANK or _IGNORABLE.match(character) is not None
    )


def _is_of_use(text: str, at: int) -> bool:
    """Whether a suspect does something that is seen."""
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    match text[at]:
        case "\t" | "\n":
            return True
        case "\r":
            return after == "\n"
        case "\ufe0f":
            is_keycap = before != "" and before in "0123456789#*" and after == "\u20e3"
            return is_keycap or _PICTOGRAPH.match(before) is not None
        case "\u200d":
            emoji = text[max(0, at - 2) : at - 1] if before == "\ufe0f" else before
            joins = _PICTOGRAPH.match(emoji) is not None and _PICTOGRAPH.match(after) is not None
            return joins or _takes_the_vowel(before)
        case "\u200c":
            letter = text[max(0, at - _MOST_MARKS - 1) : at].rstrip(_ARABIC_MARKS)[-1:]
            parts = _JOINED_FOLLOWING.match(letter) is not None and _ARABIC_LETTER.match(after) is not None
            return parts or _takes_the_vowel(before)
    return False


def _takes_the_vowel(character: str) -> bool:
    return character != "" and unicodedata.combining(character) == 9  # Canonical_Combining_Class=Virama
