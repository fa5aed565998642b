"""Commands whose help keeps its examples as they were written, line by line."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

import click


class Command(click.Command):
    """A paragraph with indented lines is not filled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = _kept(self.help)


class Group(click.Group):
    """The same for a group, and for the commands in it."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = _kept(self.help)


def _kept(help: str | None) -> str | None:
    """`help` with click's mark for paragraphs that stay as they are."""
    if help is None:
        return None
    return "\n\n".join(f"\b\n{each}" if "\n  " in each else each for each in cleandoc(help).split("\n\n"))
