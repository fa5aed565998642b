from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.protocol import hello

OFFER = hello.Offer(versions=[1], features=["http-exchange"], required=["http-exchange"], nonce=b"n" * 32)


def offer(**changes: Any) -> hello.Offer:
    values = {name: getattr(OFFER, name) for name in OFFER.__struct_fields__}
    return hello.Offer(**values | changes)


def test_what_one_end_says_the_other_hears() -> None:
    assert hello.decode(hello.encode(OFFER), hello.Offer) == OFFER


def test_the_ends_agree_on_the_highest_version_and_the_common_features() -> None:
    said = offer(versions=[1, 2, 9], features=["http-exchange", "later"])
    assert hello.agree(said, versions=(1, 2)) == (2, ["http-exchange"])


@pytest.mark.parametrize(
    "said",
    [
        offer(versions=[2]),
        offer(versions=[]),
        offer(features=[]),
        offer(features=["http-exchange", "x"], required=["x"]),
    ],
)
def test_what_is_required_cannot_be_dropped_by_the_middle(said: hello.Offer) -> None:
    with pytest.raises(hello.Disagreement):
        hello.agree(said)


@given(st.binary(max_size=300) | st.just(b"{" * 9000) | st.just(b"[" * 8000))
def test_whatever_comes_is_a_greeting_or_a_disagreement(payload: bytes) -> None:
    readers = (
        lambda: hello.decode(payload, hello.Offer),
        lambda: hello.decode(payload, hello.Hello),
        lambda: hello.decode(payload, hello.Welcome),
        lambda: hello.decode(payload, hello.Refusal),
    )
    for read in readers:
        try:
            read()
        except hello.Disagreement:
            continue


def test_members_of_a_later_version_are_skipped() -> None:
    assert hello.decode(b'{"code":"x","message":"y","later":1}', hello.Refusal).code == "x"


fields = st.binary(max_size=4)
transcripts = st.builds(
    hello.Transcript, fields, fields, st.text("ab", max_size=3), st.integers(1, 3), st.lists(st.text("ab,", max_size=2))
)


@given(one=transcripts, two=transcripts, certificates=st.tuples(st.none() | fields, st.none() | fields))
def test_two_transcripts_are_signed_alike_only_if_they_say_the_same(
    one: hello.Transcript, two: hello.Transcript, certificates: tuple[bytes | None, bytes | None]
) -> None:
    def said(transcript: hello.Transcript, certificate: bytes | None) -> object:
        features = ",".join(sorted(transcript.features))
        return (
            transcript.offer_nonce,
            transcript.hello_nonce,
            transcript.tunnel,
            transcript.version,
            features,
            certificate or b"",
        )

    same = said(one, certificates[0]) == said(two, certificates[1])
    assert (one.signed_by("relay", certificates[0]) == two.signed_by("relay", certificates[1])) == same
    assert one.signed_by("relay", None) != one.signed_by("connector", None)
