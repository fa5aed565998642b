"""/v1/sessions/{id}/files, ours: what a session's code is given by its tenant, and what its worker sends back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from arrowslit.agents.api.pages import PageQuery, Position, page
from arrowslit.agents.api.reading import read_body, read_query
from arrowslit.agents.api.resource import INVOKERS, Doorkeeper, Method, caller
from arrowslit.agents.api.schema import Nothing, Strict
from arrowslit.agents.api.stream import still
from arrowslit.agents.api.visible import present, visible
from arrowslit.agents.sessions.log import Log
from arrowslit.clock import Clock, rfc3339
from arrowslit.credential import CredentialKind
from arrowslit.errors import Error
from arrowslit.file import (
    MOST_BYTES,
    MOST_PATH,
    UNKNOWN_TYPE,
    Content,
    File,
    Files,
    Purpose,
    check_media_type,
    check_path,
)
from arrowslit.record import Ledger
from arrowslit.session import Session, SessionStatus
from arrowslit.work import Worker

LOOK_AFTER = 1.0  # seconds after which the credential of somebody who is still reading is looked at again

BY_WORKER = frozenset({CredentialKind.SESSIONS_TOKEN})


class FilesQuery(PageQuery):
    """GET /v1/sessions/{id}/files."""

    purpose: Purpose | None = None


class UploadQuery(Strict):
    """POST /v1/sessions/{id}/files. The body is the file's bytes."""

    filename: Annotated[str, Meta(min_length=1, max_length=MOST_PATH)]


@dataclass(frozen=True, slots=True)
class FilesApi:
    """The handlers."""

    log: Log
    files: Files
    ledger: Ledger
    clock: Clock

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource."""

        async def upload(request: Request) -> object:
            """Keep a file: an input from whoever may use the session, an output from its worker."""
            return await self.upload(request, keeper)

        async def content(request: Request) -> object:
            """The file's bytes."""
            return await self.content(request, keeper)

        every = "/v1/sessions/{session_id}/files"
        one = f"{every}/{{file_id}}"
        missing = ("session_not_found", "file_not_found")
        adding = ("session_not_found", "session_terminated", "payload_too_large", "quota_exceeded", "name_taken")
        recorded = (*missing, "ledger_unavailable")
        return [
            keeper.resource(
                every,
                get=Method(
                    self.list, INVOKERS | BY_WORKER, query=FilesQuery, answer="FilePage", errors=("session_not_found",)
                ),
                post=Method(
                    upload,
                    INVOKERS | BY_WORKER,
                    query=UploadQuery,
                    answer="File",
                    errors=(*adding, "ledger_unavailable"),
                    upload=True,
                ),
            ),
            keeper.resource(
                one,
                get=Method(self.retrieve, INVOKERS | BY_WORKER, answer="File", errors=missing),
                delete=Method(self.delete, INVOKERS, body=Nothing, answer="Deleted", errors=recorded),
            ),
            keeper.resource(
                f"{one}/content", get=Method(content, INVOKERS | BY_WORKER, errors=recorded, download=True)
            ),
        ]

    async def list(self, request: Request) -> object:
        """A page of the session's files, newest first."""
        query = read_query(request, FilesQuery)
        session = await self._session(request)
        found = [each for each in await self.files.list(session.id) if query.purpose in (None, each.purpose)]
        return page(request, query, found, _position, _show)

    async def upload(self, request: Request, keeper: Doorkeeper) -> object:
        """What is sent by somebody who may no longer do so when it is complete is not kept."""
        query = read_query(request, UploadQuery)
        name = check_path(query.filename)
        media_type = check_media_type(request.headers.get("content-type", ""))
        if int(request.headers.get("content-length", "0")) > MOST_BYTES:
            raise Error("payload_too_large", f"a file has at most {MOST_BYTES // 2**20} MiB", hint="send it in parts")
        session = await self._session(request)
        if session.status is SessionStatus.TERMINATED:
            raise Error("session_terminated", "the session is over", hint="create a new one")
        purpose = Purpose.OUTPUT if isinstance(caller(request), Worker) else Purpose.INPUT

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in request.stream():
                yield piece
            if not await still(request, keeper):
                raise Error("unauthenticated", "this credential ended meanwhile", hint="send the file with another")

        file = await self.files.add(session.id, name, purpose, media_type, pieces())
        await self._record("file_stored", request, session, file)
        return _show(file)

    async def retrieve(self, request: Request) -> object:
        """What is known of a file."""
        session = await self._session(request)
        return _show(await self.files.read(session.id, request.path_params["file_id"]))

    async def content(self, request: Request, keeper: Doorkeeper) -> Response:
        """To be saved and not to be looked at: a browser runs nothing of it."""
        session = await self._session(request)
        file, content = await self.files.open(session.id, request.path_params["file_id"])
        try:
            if request.method != "HEAD":
                await self._record("file_read", request, session, file)
        except BaseException:
            content.close()
            raise

        async def live() -> bool:
            return await still(request, keeper)

        return Download(file, content, live, self.clock)

    async def delete(self, request: Request) -> object:
        """Forget a file."""
        await read_body(request, Nothing)
        session = await self._session(request)
        file = await self.files.read(session.id, request.path_params["file_id"])
        await self._record("file_deleted", request, session, file)
        await self.files.delete(session.id, file.id)
        return {"id": file.id, "type": "file_deleted"}

    async def _session(self, request: Request) -> Session:
        """The session of the path, for whoever may see it and, if it is a worker, still serves it."""
        present(caller(request))
        session, _ = await visible(request, self.log)
        return session

    async def _record(self, kind: str, request: Request, session: Session, file: File) -> None:
        """Where data went. Neither the name nor what is in the file stands in the record."""
        facts = {
            "session": session.id,
            "tenant": session.tenant,
            "by": caller(request).id,
            "file": file.id,
            "purpose": file.purpose.value,
            "bytes": file.size,
            "digest": self.ledger.digest(bytes.fromhex(file.sha256)),
        }
        await self.ledger.append(kind, facts)


class Download(Response):
    """The answer with a file's bytes, read as they are taken. It breaks off when the right to read them ends."""

    def __init__(self, file: File, content: Content, live: Callable[[], Awaitable[bool]], clock: Clock) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                "content-type": UNKNOWN_TYPE,
                "content-length": str(file.size),
                "content-disposition": _attachment(file.name),
                "content-security-policy": "sandbox; default-src 'none'",
                "x-content-type-options": "nosniff",
            }
        )
        self._content = content
        self._live = live
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                looked_at = self._clock.monotonic()
                while piece := await self._content.read():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    if self._clock.monotonic() - looked_at >= LOOK_AFTER:
                        looked_at = self._clock.monotonic()
                        if not await self._live():
                            return  # the server then drops the connection
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._content.close()


def _attachment(name: str) -> str:
    """RFC 6266: to be saved, under the last part of its name."""
    last = name.rpartition("/")[2]
    plain = "".join(each if each.isascii() and each not in '"%' else "_" for each in last)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(last, safe='')}"


def _show(file: File) -> Mapping[str, object]:
    """The official object of the Files API, with what is ours."""
    return {
        "id": file.id,
        "type": "file",
        "session_id": file.session_id,
        "filename": file.name,
        "purpose": file.purpose.value,
        "mime_type": file.media_type,
        "size_bytes": file.size,
        "sha256": file.sha256,
        "created_at": rfc3339(file.created_at),
        "downloadable": True,
    }


def _position(file: File) -> Position:
    return file.created_at, file.id
