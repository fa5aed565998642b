"""The ceiling: what the owner of the connector's machine lets through, whatever the public side was granted or says."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from arrowslit.errors import Error
from arrowslit.outcome import Effect
from arrowslit.policy.decide import ALLOW, Allow, Asked, Deny, echo, missing
from arrowslit.principal import check_prompt, check_tenant, check_tool
from arrowslit.uri import check_resource, covers


@dataclass(frozen=True, slots=True)
class Names:
    """A list of exact names; holds none unless it says so. `any` was written as `["*"]`."""

    listed: frozenset[str] = frozenset()
    any: bool = False

    def __contains__(self, name: object) -> bool:
        return self.any or name in self.listed

    def __bool__(self) -> bool:
        return self.any or bool(self.listed)

    def shown(self) -> list[str]:
        """As it stands in a ceiling file, sorted."""
        return ["*"] if self.any else sorted(self.listed)


class Source(Enum):
    """Where a ceiling comes from, in the word that `status` shows."""

    NONE = "none"  # neither --ceiling nor --allow
    FLAGS = "--allow"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The local policy. `hosts` are further `host:port` that the target may be at, beside what `--target` says.

    `read_only` and `idempotent` are tools that the operator declared so. Made once, at the start: by `parse`, by
    `of_tools`, or it is `OPEN`. Nothing that the public side sends changes it (P10).
    """

    source: Source
    tools: Names = Names()
    tenants: Names = Names()
    hosts: frozenset[str] = frozenset()
    read_only: frozenset[str] = frozenset()
    idempotent: frozenset[str] = frozenset()
    resources: Names = Names()
    prompts: Names = Names()

    @property
    def limits(self) -> bool:
        """Whether there is one at all. Without, everything passes as the relay grants it."""
        return self.source is not Source.NONE

    @property
    def everything(self) -> bool:
        """Whether every method passes: there is no ceiling, or it has a star for all that a server offers."""
        return not self.limits or (self.tools.any and self.resources.any and self.prompts.any)

    @property
    def any_resource(self) -> bool:
        """Whether any resource passes."""
        return bool(self.resources)

    @property
    def any_prompt(self) -> bool:
        """Whether any prompt passes."""
        return bool(self.prompts)

    def allows(self, tool: str) -> bool:
        """Whether the tool of exactly this name passes."""
        return self.everything or tool in self.tools

    def allows_resource(self, uri: str) -> bool:
        """Whether the resource of this URI passes."""
        return self.everything or self.resources.any or covers(self.resources.listed, uri)

    def allows_template(self, template: str) -> bool:
        """Whether the template of exactly this text passes."""
        return self.everything or template in self.resources

    def allows_prompt(self, prompt: str) -> bool:
        """Whether the prompt of exactly this name passes."""
        return self.everything or prompt in self.prompts

    def decide(self, asked: Asked) -> Allow | Deny:
        """Whether `asked` passes, by what the server would read in it and not by what the relay says about it.

        Every tenant that the message could be read to name has to be a listed one; a request that names none passes
        only where any tenant does. Notifications and responses carry no tenant, and reach nobody's data.
        """
        if not self.limits or asked.method is None:
            return ALLOW
        if not asked.method.startswith("notifications/") and not self.tenants.any:
            named = asked.tenants
            if not named or not all(tenant in self.tenants for tenant in named):
                nobody = ", which names no tenant that does" if not self.tenants else ""
                return _deny(f"this tenant does not pass the connector's ceiling{nobody}")
        found = missing(self, asked)
        if found is not None:
            return _deny(f"the {found.kind} {echo(found.name)} does not pass the connector's ceiling")
        return ALLOW

    def effect(self, tool: str) -> Effect:
        """What the operator of the connector declared about a tool; the stronger claim where it is in both lists."""
        if tool in self.read_only:
            return Effect.READ_ONLY
        return Effect.IDEMPOTENT if tool in self.idempotent else Effect.WRITE

    def summary(self) -> dict[str, object]:
        """For `status` and the line at the start: where it comes from, and what it lets through."""
        if not self.limits:
            return {"ceiling": self.source.value}
        return {
            "ceiling": self.source.value,
            "tools": self.tools.shown(),
            **({"resources": self.resources.shown()} if self.resources else {}),
            **({"prompts": self.prompts.shown()} if self.prompts else {}),
            "tenants": self.tenants.shown(),
            "hosts": sorted(self.hosts),
            "read_only": sorted(self.read_only),
            "idempotent": sorted(self.idempotent),
        }


OPEN = Ceiling(Source.NONE, tools=Names(any=True), tenants=Names(any=True))
"""Neither `--ceiling` nor `--allow`: the one place where absence does not deny, so that the first command works."""


def of_tools(names: Iterable[str]) -> Ceiling:
    """The ceiling of `--allow TOOL…`: these tools, for any tenant.

    Raises Error `ceiling_invalid` for no tool at all, and for a bad name.
    """
    tools = frozenset(_checked(name, check_tool, "--allow") for name in names)
    if not tools:
        raise _invalid("--allow names no tool")
    return Ceiling(Source.FLAGS, tools=Names(tools), tenants=Names(any=True))


def parse(text: str) -> Ceiling:
    """The ceiling in a TOML file: `tools`, `resources`, `prompts`, `tenants`, `hosts`, `read_only`, `idempotent`.

    Each is a list of exact names. An absent one of the first four lets none through, `["*"]` any. Raises
    Error `ceiling_invalid` for anything that does not say clearly what is meant: an unknown key, another type, a
    pattern, a file without a single key.
    """
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _invalid(f"it is not TOML: {error}") from None
    ceiling, flaws = read(table)
    if flaws:
        raise flaws[0].error
    return ceiling


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with one key of a ceiling; an empty `key` means the ceiling as a whole."""

    key: str
    error: Error


def read(table: Mapping[str, object]) -> tuple[Ceiling, list[Flaw]]:
    """The ceiling in a TOML table, and everything that is wrong with it; it is good for nothing unless that is
    nothing.
    """
    flaws = [Flaw(key, _invalid(f"unknown key {echo(key)}")) for key in sorted(table.keys() - _CHECKS.keys())]
    if not table:
        flaws.append(Flaw("", _invalid("it is empty")))
    listed: dict[str, frozenset[str]] = {}
    for key, check in _CHECKS.items():
        try:
            listed[key] = frozenset() if _any(table, key) else _list(table, key, check)
        except Error as error:
            flaws.append(Flaw(key, error))
            listed[key] = frozenset()
    names = {key: Names(listed[key], any=_any(table, key)) for key in _ANY}
    ceiling = Ceiling(
        Source.FILE,
        tools=names["tools"],
        resources=names["resources"],
        prompts=names["prompts"],
        tenants=names["tenants"],
        hosts=listed["hosts"],
        read_only=listed["read_only"],
        idempotent=listed["idempotent"],
    )
    return ceiling, flaws


_ANY = frozenset({"tools", "resources", "prompts", "tenants"})  # where `["*"]` stands for every name


def _any(table: Mapping[str, object], key: str) -> bool:
    return key in _ANY and table.get(key) == ["*"]


_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+):[0-9]{1,5}")


def _list(table: Mapping[str, object], key: str, check: Callable[[str], str]) -> frozenset[str]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise _invalid(f"{key} is not a list")
    return frozenset(_checked(name, check, key) for name in value)


def _checked(name: object, check: Callable[[str], str], where: str) -> str:
    if not isinstance(name, str):
        raise _invalid(f"{where} holds something that is not text")
    try:
        return check(name)
    except Error as error:
        raise _invalid(f"{where}: {error.message}") from None


def _check_host(text: str) -> str:
    """`host:port` in lower case; the connector reads it as strictly as the address of a target."""
    if not _HOST.fullmatch(text.lower()):
        raise Error("ceiling_invalid", f"{text!r} is not host:port", hint="write it as db.internal:5432")
    return text.lower()


_CHECKS: Mapping[str, Callable[[str], str]] = {
    "tools": check_tool,
    "resources": check_resource,
    "prompts": check_prompt,
    "tenants": check_tenant,
    "hosts": _check_host,
    "read_only": check_tool,
    "idempotent": check_tool,
}


def _invalid(why: str) -> Error:
    return Error(
        "ceiling_invalid",
        f"the ceiling cannot be used: {why}",
        hint='a ceiling is TOML: tools = ["check_stock"], tenants = ["*"]; and resources, prompts, hosts, read_only, '
        "idempotent",
    )


def _deny(why: str) -> Deny:
    return Deny("denied_by_ceiling", why, "the connector's operator decides: --allow, --ceiling, or [targets.ceiling]")
