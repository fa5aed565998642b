"""All tools of one session."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from arrowslit.ids import RandomBytes
from arrowslit.sandbox.isolation.isolation import Sandbox
from arrowslit.sandbox.tools.helper import FileTool, Helper
from arrowslit.sandbox.tools.shell import BashTool
from arrowslit.sandbox.tools.tool import Tool


def tools(
    sandbox: Sandbox, *, environment: Mapping[str, str] | None = None, random: RandomBytes = os.urandom
) -> Sequence[Tool]:
    """bash, read, write, edit, glob and grep in a sandbox; `environment` is added to that of every command of bash.

    Each starts its process when it is first called. Close them all, and then the sandbox.
    """
    helper = Helper(sandbox)
    names = ("read", "write", "edit", "glob", "grep")
    return (BashTool(sandbox, environment or {}, random), *(FileTool(name, helper) for name in names))
