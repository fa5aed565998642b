"""/v1/environments: official shapes, self-hosted ones only; and the keys of their workers, which are ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agents.api.pages import ArchivableQuery, PageQuery, Position, page
from arrowslit.agents.api.reading import check_label, patched, read_body, read_query, to_shape
from arrowslit.agents.api.resource import Doorkeeper, Method
from arrowslit.agents.api.schema import (
    EnvironmentBody,
    EnvironmentKeyBody,
    EnvironmentUpdateBody,
    Nothing,
    SelfHostedBody,
)
from arrowslit.clock import rfc3339
from arrowslit.environment import Environment, EnvironmentKey, Environments
from arrowslit.errors import Error


class EnvironmentKeysQuery(PageQuery):
    """GET /v1/environments/{id}/keys."""

    include_revoked: bool = False


@dataclass(frozen=True, slots=True)
class EnvironmentsApi:
    """The handlers."""

    environments: Environments

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource."""
        one = "/v1/environments/{environment_id}"
        absent, closed = "environment_not_found", "environment_archived"
        return [
            keeper.resource(
                "/v1/environments",
                get=Method(self.list, query=ArchivableQuery, answer="EnvironmentPage"),
                post=Method(self.create, body=EnvironmentBody, answer="Environment"),
            ),
            keeper.resource(
                one,
                get=Method(self.retrieve, answer="Environment", errors=(absent,)),
                post=Method(self.update, body=EnvironmentUpdateBody, answer="Environment", errors=(absent, closed)),
                delete=Method(self.delete, body=Nothing, answer="Deleted", errors=(absent, "environment_in_use")),
            ),
            keeper.resource(
                f"{one}/archive", post=Method(self.archive, body=Nothing, answer="Environment", errors=(absent,))
            ),
            keeper.resource(
                f"{one}/keys",
                get=Method(self.keys, query=EnvironmentKeysQuery, answer="EnvironmentKeyPage", errors=(absent,)),
                post=Method(
                    self.create_key, body=EnvironmentKeyBody, answer="NewEnvironmentKey", errors=(absent, closed)
                ),
            ),
            keeper.resource(
                f"{one}/keys/{{key_id}}",
                delete=Method(self.revoke_key, body=Nothing, answer="EnvironmentKey", errors=(absent, "key_not_found")),
            ),
        ]

    async def create(self, request: Request) -> object:
        """Make an environment."""
        body = await read_body(request, EnvironmentBody)
        _check_config(body.config, "not_supported")
        _check_scope(body.scope)
        made = await self.environments.create(
            check_label(body.name, "name"), description=body.description or None, metadata=_metadata({}, body.metadata)
        )
        return _show(made)

    async def retrieve(self, request: Request) -> object:
        """The environment."""
        return _show(self.environments.read(_id(request)))

    async def update(self, request: Request) -> object:
        """Change what the body mentions."""
        body = await read_body(request, EnvironmentUpdateBody)
        self.environments.read(_id(request))
        if not isinstance(body.config, UnsetType):
            _check_config(body.config, "invalid_config_type_change")
        _check_scope(body.scope)

        def revise(before: Environment) -> Environment:
            name, description = body.name, body.description
            return replace(
                before,
                name=before.name if isinstance(name, UnsetType) else check_label(name, "name"),
                description=before.description if isinstance(description, UnsetType) else description or None,
                metadata=_metadata(before.metadata, body.metadata),
            )

        return _show(await self.environments.update(_id(request), revise))

    async def list(self, request: Request) -> object:
        """A page of environments."""
        query = read_query(request, ArchivableQuery)
        found = [each for each in self.environments.every() if query.include_archived or each.archived_at is None]
        return page(request, query, found, _position, _show)

    async def archive(self, request: Request) -> object:
        """Take no new sessions from now on."""
        await read_body(request, Nothing)
        return _show(await self.environments.archive(_id(request)))

    async def delete(self, request: Request) -> object:
        """Forget an environment. The answer has a body: the official SDK reads one."""
        await read_body(request, Nothing)
        await self.environments.delete(_id(request))
        return {"id": _id(request), "type": "environment_deleted"}

    async def create_key(self, request: Request) -> object:
        """Make a key for a worker, and show it this once."""
        body = await read_body(request, EnvironmentKeyBody)
        key, text = await self.environments.create_key(_id(request), check_label(body.name, "name"))
        return {**_show_key(key), "environment_key": text}

    async def keys(self, request: Request) -> object:
        """A page of keys, without their texts."""
        query = read_query(request, EnvironmentKeysQuery)
        found = self.environments.keys(_id(request))
        shown = [key for key in found if query.include_revoked or key.revoked_at is None]
        return page(request, query, shown, _position, _show_key)

    async def revoke_key(self, request: Request) -> object:
        """End a key now."""
        await read_body(request, Nothing)
        return _show_key(await self.environments.revoke_key(_id(request), request.path_params["key_id"]))


def _show(environment: Environment) -> Mapping[str, object]:
    return {
        "id": environment.id,
        "type": "environment",
        "name": environment.name,
        "description": environment.description,
        "config": {"type": "self_hosted"},
        "metadata": environment.metadata,
        "scope": "organization",
        "created_at": rfc3339(environment.created_at),
        "updated_at": rfc3339(environment.updated_at),
        "archived_at": None if environment.archived_at is None else rfc3339(environment.archived_at),
    }


def _show_key(key: EnvironmentKey) -> Mapping[str, object]:
    return {
        "id": key.id,
        "type": "environment_key",
        "environment_id": key.environment_id,
        "name": key.name,
        "last_four": key.last_four,
        "created_at": rfc3339(key.created_at),
        "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
    }


def _check_config(config: Mapping[str, object] | None, code: str) -> None:
    """Refuse anything but a self-hosted environment; officially one without a config would be in a cloud."""
    if config is None or config.get("type") == "cloud":
        raise Error(
            code,
            "an environment is self-hosted here: there is no cloud to run code in",
            hint='send "config": {"type": "self_hosted"}, and run: arrowslit sandbox --environment ID',
        )
    to_shape(config, SelfHostedBody)


def _check_scope(scope: str | None) -> None:
    if scope == "account":
        raise Error("not_supported", "an environment belongs to the organisation", hint='leave "scope" out')


def _metadata(
    before: Mapping[str, str], patch: Mapping[str, str | None] | UnsetType | None = UNSET
) -> Mapping[str, str]:
    return patched(before, patch, empty_deletes=True)


def _id(request: Request) -> str:
    return str(request.path_params["environment_id"])


def _position(entry: Environment | EnvironmentKey) -> Position:
    return entry.created_at, entry.id
