"""Files into sandboxes and out of them: our worker with real sandboxes, at a real relay."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import pytest_asyncio

from tests.harness import until
from tests.official.ground import Stage, answers, bash, call, ground
from tests.official.message import said
from tests.official.proxy import Does, Fault
from tests.sandbox.worker.kit import Sandboxes

pytestmark = pytest.mark.asyncio(loop_scope="module")

CSV = b"sku,quantity\nA1,3\n"
FILES = "(GET|POST) /v1/sessions/[^/]*/files"


@dataclass(frozen=True, slots=True)
class Desk:
    """A worker, and the application that gives its sessions files."""

    stage: Stage
    worker: Sandboxes

    async def put(self, session: str, name: str, content: bytes) -> Any:
        """Give a session an input."""
        path = f"/v1/sessions/{session}/files?filename={quote(name)}"
        return await self.stage.app.post(path, cast_to=object, content=content)

    async def outputs(self, session: str) -> dict[str, bytes]:
        """What its code has made."""
        path = f"/v1/sessions/{session}/files"
        page: Any = await self.stage.app.get(f"{path}?purpose=output", cast_to=object)
        found = {}
        for each in page["data"]:
            answer = await self.stage.app.get(f"{path}/{each['id']}/content", cast_to=httpx2.Response)
            found[str(each["filename"])] = answer.content
        return found

    async def said(self, session: str, *commands: str) -> list[tuple[str, bool]]:
        """What came of commands that a session's agent runs one after the other."""
        before = len(answers(await self.stage.events(session)))
        text = "\n".join(commands)
        await self.stage.send(session, "user.message", content=[{"type": "text", "text": text}])
        events = await self.stage.until(session, lambda seen: len(answers(seen)) == before + len(commands))
        return answers(events)[before:]

    def records(self, session: str) -> list[tuple[str, str | None, int | None, str | None]]:
        """Which files the worker recorded: direction, hash, how many files an archive became, and why not."""
        found = [each for each in self.worker.of("file") if each["session"] == session]
        return [(each["direction"], each["sha256"], each["unpacked"], each["reason"]) for each in found]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """One for all, on a relay of its own."""
    async with ground(tmp_path_factory.mktemp("files")) as there, there.stage() as stage:
        worker = Sandboxes(stage.workdir / "w", stage.proxy.url, stage.environment, stage.key, "--capacity", "4")
        try:
            yield Desk(stage, await asyncio.to_thread(worker.start))
        finally:
            worker.kill()


def sha256(data: bytes) -> str:
    """As records have it."""
    return hashlib.sha256(data).hexdigest()


def zipped(**files: bytes) -> bytes:
    """A zip."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return made.getvalue()


def slipping() -> bytes:
    """A tar with a file that would lie outside."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        info = tarfile.TarInfo("../../../../tmp/slipped")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"no"))
    return made.getvalue()


async def test_inputs_lie_in_the_workspace_before_the_first_command(desk: Desk) -> None:
    session = await desk.stage.session()
    await desk.put(session, "data/stock.csv", CSV)

    assert await desk.said(session, bash("cat data/stock.csv")) == [(CSV.decode().rstrip(), False)]
    assert desk.records(session) == [("in", sha256(CSV), None, None)]


async def test_what_is_put_while_a_session_is_served_is_there_at_the_next_command(desk: Desk) -> None:
    session = await desk.stage.session()
    assert await desk.said(session, bash("ls")) == [("(no output)", False)]
    await desk.put(session, "late.txt", b"late")
    assert await desk.said(session, bash("cat late.txt")) == [("late", False)]
    await desk.put(session, "late.txt", b"later")
    assert await desk.said(session, call("read", file_path="late.txt")) == [("later", False)]


async def test_outputs_are_at_the_server_when_the_call_that_made_them_is_answered(desk: Desk) -> None:
    session = await desk.stage.session()
    await desk.said(session, bash("mkdir -p outputs/a; printf 1 >outputs/a/one; printf no >elsewhere"))
    assert await desk.outputs(session) == {"a/one": b"1"}
    await desk.said(session, call("write", file_path="outputs/two", content="22"), bash("printf 11 >outputs/a/one"))
    assert await desk.outputs(session) == {"a/one": b"11", "two": b"22"}
    await desk.said(session, bash("touch outputs/*; true"))

    sums = [sha256(each) for each in (b"1", b"22", b"11")]
    assert desk.records(session) == [("out", each, None, None) for each in sums]


async def test_what_leaves_is_plain_files_of_bounded_size_with_plain_names(desk: Desk) -> None:
    session = await desk.stage.session()
    planted = (
        "mkdir outputs; cd outputs; ln -s /etc/passwd link; mkfifo pipe; truncate -s 33M large",
        "ln -s /etc folder; printf x >'a\\b'; printf x >$'new\\nline'; ln /workspace/own hard; printf good >good",
    )
    ((said, failed),) = await desk.said(session, bash("printf own >own; " + "; ".join(planted)))

    assert not failed
    assert await desk.outputs(session) == {"good": b"good", "hard": b"own"}
    for each in (
        "link is not sent: it is no plain",
        "pipe is not sent",
        "large is not sent: a file has at most 32 MiB",
    ):
        assert f"[outputs/{each}" in said
    assert "[outputs/folder is not sent" in said
    assert "[outputs/'new\\nline' is not sent: the file's name" in said
    assert "[outputs/a\\b is not sent: the file's name" in said


async def test_a_link_in_the_place_of_outputs_leads_nowhere(desk: Desk) -> None:
    session = await desk.stage.session()
    assert await desk.said(session, bash("ln -s /etc outputs")) == [("(no output)", False)]

    assert await desk.outputs(session) == {}


async def test_an_archive_is_unpacked_into_a_folder_of_its_name(desk: Desk) -> None:
    session = await desk.stage.session()
    archive = zipped(a=b"A", b__c=b"C")
    await desk.put(session, "in/code.zip", archive)

    assert await desk.said(session, bash("cat in/code/a in/code/b/c; ls in")) == [("ACcode\ncode.zip", False)]
    assert desk.records(session) == [("in", sha256(archive), 2, None)]


async def test_an_archive_that_would_leave_its_folder_is_not_unpacked_and_that_is_said(desk: Desk) -> None:
    session = await desk.stage.session()
    await desk.put(session, "evil.tar.gz", slipping())
    await desk.put(session, "broken.zip", b"PK\x03\x04")
    ((said, failed),) = await desk.said(session, bash("ls /tmp; ls; ls evil broken"))

    assert not failed
    assert said.startswith("broken\nbroken.zip\nevil\nevil.tar.gz\n")
    assert "[evil.tar.gz is here, but not unpacked: " in said
    assert "leads out of the folder]" in said
    assert "[broken.zip is here, but not unpacked: it is damaged" in said
    assert [each[3] is None for each in desk.records(session)] == [False, False]


async def test_a_new_sandbox_finds_the_inputs_and_the_outputs_of_the_one_before(desk: Desk) -> None:
    session = await desk.stage.session()
    await desk.put(session, "given", b"given")
    await desk.said(
        session, bash("printf made >outputs/made || { mkdir outputs; printf made >outputs/made; }; touch x")
    )
    left = f"left {session}"
    await asyncio.to_thread(until, lambda: left in desk.worker.err, left)

    assert await desk.said(session, bash("cat given outputs/made; ls")) == [("givenmadegiven\noutputs", False)]
    assert await desk.outputs(session) == {"made": b"made"}
    assert [each[0] for each in desk.records(session)] == ["in", "out", "in", "in"]


async def test_what_a_job_makes_after_the_last_call_is_sent_before_the_sandbox_goes(desk: Desk) -> None:
    session = await desk.stage.session()
    await desk.said(session, bash("mkdir outputs; (sleep 0.2; printf late >outputs/late) & true"))
    left = f"left {session}"
    await asyncio.to_thread(until, lambda: left in desk.worker.err, left)

    assert await desk.outputs(session) == {"late": b"late"}


@pytest.mark.parametrize("status", [404, 503])
async def test_without_files_at_the_server_the_agent_works_on_and_is_told(desk: Desk, status: int) -> None:
    """404 is what the official platform answers to a path that it does not know."""
    async with desk.stage.ground.stage(Fault(FILES, Does(answer=said(status)))) as stage:
        worker = Sandboxes(stage.workdir / "w", stage.proxy.url, stage.environment, stage.key)
        try:
            await asyncio.to_thread(worker.start)
            session = await stage.session(bash("mkdir outputs; printf x >outputs/x; cat outputs/x"), bash("echo on"))
            (first, failed), second = answers(await stage.over(session))
        finally:
            worker.kill()

    assert not failed
    if status == 404:
        assert first == "x[outputs stay here: this server keeps no files]"
        assert [each["sha256"] for each in worker.of("file")] == [sha256(b"x")]
        assert worker.err.count("the server takes no files") == 1
        assert len(stage.proxy.of(FILES)) == 1
        assert second == ("on", False)
    else:
        assert "[outputs/x is not sent yet: " in first
        assert second[0].startswith("on")
