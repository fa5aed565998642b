from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from starlette.applications import Starlette

from arrowslit import file
from arrowslit.store.open import Store
from tests.agents.api.delivered import Delivered, deliver
from tests.agents.bench import Records
from tests.agents.kit import Caller, code_of

CSV = b"sku,quantity\nA1,3\n"


@dataclass(frozen=True, slots=True)
class Desk:
    """The tenant and the worker of one session."""

    place: Delivered
    tenant: Caller
    worker: Caller

    async def put(self, caller: Caller, name: str, content: bytes = CSV) -> Any:
        response = await caller.post(self.named(name), content=content)
        assert response.status_code == 200, response.text
        return response.json()

    def named(self, name: str) -> str:
        return f"{self.place.files}?filename={quote(name)}"

    async def names(self, caller: Caller, query: str = "") -> list[tuple[str, str]]:
        found = await caller.ok("GET", f"{self.place.files}{query}")
        return [(each["purpose"], each["filename"]) for each in found["data"]]


@pytest_asyncio.fixture
async def desk(app: Starlette, store: Store) -> AsyncIterator[Desk]:
    place = await deliver(app, store)
    async with Caller(app, place.key) as tenant, Caller(app, place.token) as worker:
        yield Desk(place, tenant, worker)


async def test_what_a_tenant_puts_in_its_worker_reads_and_what_that_puts_the_tenant_reads(desk: Desk) -> None:
    given = await desk.put(desk.tenant, "data/stock.csv")
    made = await desk.put(desk.worker, "sum.json", b"{}")

    assert (given["purpose"], made["purpose"]) == ("input", "output")
    assert (await desk.worker.get(f"{desk.place.files}/{given['id']}/content")).content == CSV
    assert (await desk.tenant.get(f"{desk.place.files}/{made['id']}/content")).content == b"{}"
    assert await desk.names(desk.tenant) == await desk.names(desk.worker)
    assert await desk.names(desk.worker, "?purpose=input") == [("input", "data/stock.csv")]


async def test_a_file_is_shown_in_the_official_shape_with_what_is_ours(desk: Desk) -> None:
    response = await desk.tenant.post(desk.named("a.csv"), content=CSV, headers={"content-type": "text/csv"})
    shown = response.json()

    assert shown == {
        "id": shown["id"],
        "type": "file",
        "session_id": desk.place.session,
        "filename": "a.csv",
        "purpose": "input",
        "mime_type": "text/csv",
        "size_bytes": len(CSV),
        "sha256": sha256(CSV).hexdigest(),
        "created_at": shown["created_at"],
        "downloadable": True,
    }
    assert await desk.tenant.ok("GET", f"{desk.place.files}/{shown['id']}") == shown


async def test_a_page_never_becomes_a_page_of_ours(desk: Desk, ledger: Records) -> None:
    """What an agent's code writes is handed out to be saved, whatever it says that it is."""
    response = await desk.worker.post(
        desk.named('x/é".html'), content=b"<script>alert(1)</script>", headers={"content-type": "text/html"}
    )
    path = f"{desk.place.files}/{response.json()['id']}/content"
    got = await desk.tenant.get(path)

    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"] == "attachment; filename=\"__.html\"; filename*=UTF-8''%C3%A9%22.html"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"].startswith("sandbox")
    head = await desk.tenant.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "25")
    assert [kind for kind, _ in ledger.kept] == ["file_stored", "file_read"]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../a",
        "a/../b",
        "a//b",
        "a/",
        ".",
        "a\\b",
        "a\nb",
        "a\x1b[2J",
        "a\u202eb",
        "e\u0301",
        "",
        "a" * 256,
    ],
)
async def test_a_name_is_a_plain_relative_path(desk: Desk, name: str) -> None:
    refused = code_of(await desk.tenant.post(desk.named(name), content=CSV))

    assert refused in {(400, "validation_error"), (400, "encoding_invalid")}
    assert await desk.names(desk.tenant) == []


async def test_the_name_of_a_file_is_text(desk: Desk) -> None:
    assert code_of(await desk.tenant.post(f"{desk.place.files}?filename=%ff")) == (400, "validation_error")
    refused = await desk.tenant.post(desk.named("a"), headers={"content-type": "a page"})
    assert code_of(refused) == (400, "validation_error")


async def test_a_file_of_the_same_name_takes_the_place_of_the_one_before(desk: Desk, tmp_path: Path) -> None:
    first = await desk.put(desk.worker, "sum.json", b"1")
    second = await desk.put(desk.worker, "sum.json", b"2")
    await desk.put(desk.tenant, "sum.json", b"3")

    assert await desk.names(desk.tenant, "?purpose=output") == [("output", "sum.json")]
    assert await desk.tenant.refused("GET", f"{desk.place.files}/{first['id']}") == (404, "file_not_found")
    assert (await desk.tenant.get(f"{desk.place.files}/{second['id']}/content")).content == b"2"
    assert len(list((tmp_path / "files").iterdir())) == 2


async def test_no_file_is_a_folder_in_the_path_of_another(desk: Desk) -> None:
    await desk.put(desk.tenant, "data/stock.csv")

    assert code_of(await desk.tenant.post(desk.named("data"), content=CSV)) == (409, "name_taken")
    assert code_of(await desk.tenant.post(desk.named("data/stock.csv/x"), content=CSV)) == (409, "name_taken")
    await desk.put(desk.tenant, "data.csv")


async def test_a_file_has_a_largest_size_and_what_is_larger_leaves_nothing_behind(desk: Desk, tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(file.MOST_BYTES // 2**20):
            yield bytes(2**20)
        yield b"one more"

    refused = await desk.tenant.post(desk.named("a"), content=pieces())

    assert code_of(refused) == (413, "payload_too_large")
    assert await desk.names(desk.tenant) == []
    assert list((tmp_path / "files").iterdir()) == []


async def test_a_length_that_is_too_large_is_refused_before_the_bytes_are_read(desk: Desk) -> None:
    headers = {"content-length": str(file.MOST_BYTES + 1)}

    assert code_of(await desk.tenant.post(desk.named("a"), headers=headers)) == (413, "payload_too_large")


async def test_a_session_holds_so_many_files_and_bytes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arrowslit.store.files.SESSION_FILES", 2)
    monkeypatch.setattr("arrowslit.store.files.SESSION_BYTES", 100)
    await desk.put(desk.tenant, "a", bytes(60))

    assert code_of(await desk.worker.post(desk.named("b"), content=bytes(41))) == (400, "quota_exceeded")
    await desk.put(desk.tenant, "a", bytes(61))  # in the place of the first
    await desk.put(desk.worker, "b", b"")
    assert code_of(await desk.worker.post(desk.named("c"), content=b"")) == (400, "quota_exceeded")


async def test_a_tenant_deletes_files_and_a_worker_does_not(desk: Desk, tmp_path: Path) -> None:
    path = f"{desk.place.files}/{(await desk.put(desk.worker, 'a'))['id']}"

    assert await desk.worker.refused("DELETE", path) == (403, "forbidden")
    assert (await desk.tenant.ok("DELETE", path))["type"] == "file_deleted"
    assert await desk.tenant.refused("DELETE", path) == (404, "file_not_found")
    assert await desk.tenant.refused("GET", f"{path}/content") == (404, "file_not_found")
    assert list((tmp_path / "files").iterdir()) == []


async def test_files_stay_when_their_session_ends_and_go_when_it_is_deleted(desk: Desk, tmp_path: Path) -> None:
    agent = (await desk.tenant.ok("GET", f"/v1/sessions/{desk.place.session}"))["agent"]["id"]
    asked = {"agent": agent, "environment_id": desk.place.environment}
    session = f"/v1/sessions/{(await desk.tenant.ok('POST', '/v1/sessions', asked))['id']}"
    given = await desk.tenant.post(f"{session}/files?filename=a", content=CSV)
    path = f"{session}/files/{given.json()['id']}/content"

    await desk.tenant.ok("POST", f"{session}/archive")

    refused = await desk.tenant.post(f"{session}/files?filename=b", content=CSV)
    assert code_of(refused) == (400, "session_terminated")
    assert (await desk.tenant.get(path)).content == CSV

    await desk.tenant.ok("DELETE", session)

    assert await desk.tenant.refused("GET", path) == (404, "session_not_found")
    assert list((tmp_path / "files").iterdir()) == []


async def test_a_worker_that_lost_its_item_neither_reads_nor_writes_files(desk: Desk) -> None:
    given = await desk.put(desk.tenant, "a")
    token = await desk.place.again()

    assert code_of(await desk.worker.post(desk.named("b"), content=CSV)) == (403, "forbidden")
    assert code_of(await desk.worker.get(f"{desk.place.files}/{given['id']}/content")) == (403, "forbidden")
    async with Caller(desk.place.app, token) as successor:
        assert (await successor.get(f"{desk.place.files}/{given['id']}/content")).content == CSV


async def test_an_environment_key_alone_opens_no_files(desk: Desk) -> None:
    async with Caller(desk.place.app, desk.place.worker) as worker:
        assert code_of(await worker.get(desk.place.files)) == (403, "forbidden")


async def test_what_is_put_into_somebody_elses_session_is_put_nowhere(
    desk: Desk, app: Starlette, store: Store, tmp_path: Path
) -> None:
    other = await deliver(app, store, "globex")
    for credential in (other.key, other.token):
        async with Caller(app, credential) as stranger:
            foreign = await stranger.post(desk.named("a"), content=CSV)
            assert code_of(foreign) == (404, "session_not_found")
    assert not (tmp_path / "files").exists()


async def test_where_data_went_is_recorded_and_not_what_it_was(desk: Desk, ledger: Records) -> None:
    given = await desk.put(desk.tenant, "secret-name.csv")
    await desk.worker.get(f"{desk.place.files}/{given['id']}/content")
    await desk.tenant.ok("DELETE", f"{desk.place.files}/{given['id']}")

    kinds = [kind for kind, _ in ledger.kept]
    assert kinds == ["file_stored", "file_read", "file_deleted"]
    assert "secret-name" not in str(ledger.kept)
    assert given["sha256"] not in str(ledger.kept)
    read = ledger.kept[1][1]
    assert (read["by"], read["file"], read["bytes"]) == (desk.place.work, given["id"], len(CSV))


async def test_what_cannot_be_recorded_is_not_handed_out(desk: Desk, ledger: Records) -> None:
    given = await desk.put(desk.tenant, "a")
    ledger.full = True

    path = f"{desk.place.files}/{given['id']}"
    assert code_of(await desk.worker.get(f"{path}/content")) == (503, "ledger_unavailable")
    assert await desk.tenant.refused("DELETE", path) == (503, "ledger_unavailable")
    assert await desk.tenant.ok("GET", path) == given
