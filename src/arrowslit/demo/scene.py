"""Scene: what the steps of the story share, what each of them is and sees, and how it checks that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from arrowslit.demo.caller import Answer, Caller
from arrowslit.demo.stage import Stage

ARRIVING = 25  # pieces that come in while the tunnel is cut


class Seen(NamedTuple):
    """What a step saw: an outcome, and a sentence."""

    outcome: str | None
    detail: str


class Unexpected(Exception):
    """What came back is not what has to come back."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen.detail)
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Scene:
    """What the steps share: the stage, one client that stays through all of it, and the refusals it was told."""

    stage: Stage
    acme: Caller
    refused: list[Answer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """`title` says what is tried, `why` what it shows."""

    name: str
    title: str
    why: str
    play: Callable[[Scene], Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class Told:
    """How a step came out. `outcome` is that of the call it is about, None if it was not even made."""

    step: Step
    ok: bool
    outcome: str | None
    detail: str
    seconds: float


def expect(holds: bool, otherwise: str, outcome: str | None = None) -> None:
    if not holds:
        raise Unexpected(Seen(outcome, otherwise))


def expect_answer(answer: Answer, expected: dict[str, object]) -> None:
    right = answer.outcome == "result" and answer.content == expected
    expect(right, f"{answer}, and not {expected}", answer.outcome)


def expect_refusal(answer: Answer, outcome: str, *codes: str) -> None:
    right = answer.outcome == outcome and answer.code in codes
    expect(right, f"{answer}, and not {outcome} ({' or '.join(codes)})", answer.outcome)
