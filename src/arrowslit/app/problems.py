"""What is wrong with a file that somebody wrote, each thing with its place, code and next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from arrowslit.errors import Error


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (`key` as one would write it, dots between), and what to do about it."""

    line: int | None
    key: str
    code: str
    message: str
    hint: str | None

    def __str__(self) -> str:
        place = ", ".join(each for each in (f"line {self.line}" if self.line else "", self.key) if each)
        return f"{place}: {self.message} ({self.code})" if place else f"{self.message} ({self.code})"


def unusable(code: str, message: str, hint: str, problems: Sequence[Problem]) -> Error:
    """An Error that holds all of them, for programs as well."""
    return Error(code, message, hint=hint, problems=[asdict(each) for each in problems])


def problems(error: Error) -> list[Problem]:
    """Those that an Error holds."""
    held = error.details.get("problems", [])
    return [Problem(**each) for each in held] if isinstance(held, list) else []
