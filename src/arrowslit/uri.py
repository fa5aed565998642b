"""Resources as they are granted: by a URI, or by a template of MCP's list; and what such a name covers."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from arrowslit.errors import Error

# RFC 3986, loosely: a scheme, and what may stand in a URI; variables of a template in braces.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[!#$%&'(),./0-9:;=?@A-Z\[\]_a-z~-]|\{[A-Za-z0-9_.]+\})+")
_VARIABLE = re.compile(r"\{[A-Za-z0-9_.]+\}")
LONGEST = 2048  # characters

# What simple expansion makes of a value (RFC 6570, 3.2.2), without what a server could take for more than a value once
# it has decoded it: . / \ ? # % and control characters.
_VALUE = r"(?:[A-Za-z0-9._~-]|%(?!2[35EeFf]|3[Ff]|5[Cc]|[01]|7[Ff])[0-9A-Fa-f]{2})+"
_UPWARDS = re.compile(r"(?:^|[/:])\.{1,2}(?:[/?#]|$)")


def check_resource(text: str) -> str:
    """`text` as a resource to grant: a URI, or a URI template with variables like `{id}`.

    Raises Error `wildcard_not_allowed` for a pattern, else `validation_error`.
    """
    if "*" in text:
        raise Error("wildcard_not_allowed", f"{text!r} is a pattern", hint="list the resources by URI, one by one")
    if len(text) > LONGEST or not _NAME.fullmatch(text):
        raise Error(
            "validation_error",
            f"{text[:256]!r} is not the URI of a resource",
            hint="write a URI, or a template as the server lists it, in which each variable is {name}",
        )
    return text


def covers(granted: Collection[str], uri: str) -> bool:
    """Whether one of the `granted` names is `uri`, or a template that it fills in.

    A variable stands for one value: no slash, no way upwards, nothing that decodes to either.
    """
    if uri in granted:
        return True
    if len(uri) > LONGEST or _UPWARDS.search(uri):
        return False
    return any("{" in name and _filled(name).fullmatch(uri) is not None for name in granted)


@lru_cache(maxsize=1024)
def _filled(template: str) -> re.Pattern[str]:
    fixed = _VARIABLE.split(template)
    return re.compile(_VALUE.join(map(re.escape, fixed)))
