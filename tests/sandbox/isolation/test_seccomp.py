from __future__ import annotations

import errno
import itertools
import re
import struct
from pathlib import Path

import pytest

from arrowslit.sandbox.isolation import syscalls
from arrowslit.sandbox.isolation.seccomp import ALLOW, AUDIT_ARCH, KILL, MACHINES, Machine, program, refuse
from tests.sandbox.isolation.bpf import run

EPERM, ENOSYS = refuse(errno.EPERM), refuse(errno.ENOSYS)
NO_FAMILY, NO_PROTOCOL = refuse(errno.EAFNOSUPPORT), refuse(errno.EPROTONOSUPPORT)
HEADERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def table(machine: Machine) -> dict[str, int]:
    """Every system call of a machine up to `syscalls.NEWEST`, as the kernel's own headers number them."""
    text = Path(__file__).with_name(f"syscalls_{machine}.txt").read_text()
    return {name: int(number) for number, name in (line.split() for line in text.splitlines())}


def ask(machine: Machine, name: str, *arguments: int, also_refused: tuple[str, ...] = ()) -> int:
    return run(program(machine, also_refused), table(machine)[name], AUDIT_ARCH[machine], arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_kernel(machine: Machine) -> None:
    known = table(machine)
    tables = (syscalls.REFUSED, syscalls.ABSENT, syscalls.JUDGED, syscalls.ON_A_PROCESS, syscalls.CONDITIONAL)
    ours = {name: numbers for table in tables for name, numbers in table.items()}

    assert {name: getattr(numbers, machine) for name, numbers in ours.items()} == {
        name: known.get(name) for name in ours
    }


@pytest.mark.skipif(not HEADERS.exists(), reason="the kernel's headers are not installed: linux-libc-dev")
def test_the_table_of_the_tests_is_that_of_the_headers() -> None:
    found = re.findall(r"#define __NR_(\w+) (\d+)", HEADERS.read_text())
    known = table("x86_64")

    assert {name: int(number) for name, number in found if int(number) <= syscalls.NEWEST}.items() <= known.items()


@pytest.mark.parametrize("machine", MACHINES)
def test_each_system_call_is_refused_absent_judged_or_allowed(machine: Machine) -> None:
    expected = dict.fromkeys(table(machine), ALLOW)
    expected |= dict.fromkeys(syscalls.REFUSED, EPERM) | dict.fromkeys(syscalls.ABSENT, ENOSYS)
    judged = {"socket": NO_FAMILY, "socketpair": NO_FAMILY}  # of family 0; the rest is harmless with zeros

    answers = {name: ask(machine, name) for name in table(machine)}

    assert answers == {name: value for name, value in (expected | judged).items() if name in answers}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_number_that_nobody_has_judged_is_absent(machine: Machine) -> None:
    arch = AUDIT_ARCH[machine]

    assert run(program(machine), syscalls.NEWEST, arch) == ALLOW
    assert {run(program(machine), number, arch) for number in (463, 470, 512, 1000, 0x3FFFFFFF)} == {ENOSYS}


@pytest.mark.parametrize("machine", MACHINES)
def test_no_other_machine_and_no_other_abi_gets_through(machine: Machine) -> None:
    others = [0x40000003, 0x40000028, 0, *(AUDIT_ARCH[each] for each in MACHINES if each != machine)]  # i386, arm

    assert {run(program(machine), number, arch) for arch in others for number in (0, 1, 41, 165)} == {KILL}


def test_the_x32_abi_kills() -> None:
    numbers = [0x40000000 | number for number in (0, 39, 59, 520, 0x3FFFFFFF)]

    assert {run(program("x86_64"), number, AUDIT_ARCH["x86_64"]) for number in [*numbers, -1]} == {KILL}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_clone_with_a_namespace_is_refused_whatever_else_it_asks(machine: Machine) -> None:
    bits = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
    thread = 0x3D0F00  # as pthread_create asks

    assert {ask(machine, "clone", bit | other) for bit, other in itertools.product(bits, (0, 17, thread))} == {EPERM}
    assert ask(machine, "clone", thread) == ask(machine, "clone", 17) == ALLOW
    assert ask(machine, "clone", 0x10000000 | 1 << 40) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ((1, 1, 0), ALLOW),
        ((1, 5, 0), ALLOW),
        ((2, 1, 0), ALLOW),
        ((2, 1 | 0x80800, 6), ALLOW),  # SOCK_NONBLOCK, SOCK_CLOEXEC
        ((10, 2, 17), ALLOW),
        ((2, 3, 1), EPERM),  # raw
        ((2, 3 | 0x80000, 255), EPERM),
        ((10, 3, 58), EPERM),
        ((2, 10, 0x300), EPERM),  # the old way to a packet socket
        ((2, 2, 1), NO_PROTOCOL),  # ping
        ((2, 1, 132), NO_PROTOCOL),  # SCTP
        ((2, 1, 262), NO_PROTOCOL),  # MPTCP
        ((16, 3, 0), ALLOW),  # the list of interfaces
        ((16, 3, 12), NO_FAMILY),  # NETFILTER
        ((16, 2, 9), NO_FAMILY),
        ((16, 3, 15), NO_FAMILY),
        ((0xFFFFFFFF, 1, 0), NO_FAMILY),
        ((40 | 1 << 32, 1, 0), NO_FAMILY),  # the kernel reads an int
    ],
)
def test_sockets_are_local_tcp_and_udp(machine: Machine, arguments: tuple[int, ...], answer: int) -> None:
    assert ask(machine, "socket", *arguments) == answer


@pytest.mark.parametrize("machine", MACHINES)
def test_no_other_family_of_sockets_exists(machine: Machine) -> None:
    others = [family for family in range(64) if family not in (1, 2, 10, 16)]  # vsock, packet, XDP, Bluetooth, key, ...

    assert {ask(machine, "socket", family, kind, 0) for family in others for kind in (1, 2, 3, 5)} == {NO_FAMILY}


@pytest.mark.parametrize("machine", MACHINES)
def test_terminals_take_no_pushed_input(machine: Machine) -> None:
    refused = (0x5412, 0x541C, 0x541D, 0x5423)

    assert {ask(machine, "ioctl", 0, number) for number in refused} == {EPERM}
    assert {ask(machine, "ioctl", 0, number | 7 << 32) for number in refused} == {EPERM}
    assert {ask(machine, "ioctl", 0, number) for number in (0x5401, 0x5413, 0x541B)} == {ALLOW}


@pytest.mark.parametrize("machine", MACHINES)
def test_what_a_limit_rests_on_may_be_refused_too(machine: Machine) -> None:
    for name in syscalls.CONDITIONAL:
        assert ask(machine, name) == ALLOW
        assert ask(machine, name, also_refused=(name,)) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_a_personality_keeps_addresses_random(machine: Machine) -> None:
    assert ask(machine, "personality", 0xFFFFFFFF) == ask(machine, "personality", 0) == ALLOW
    assert ask(machine, "personality", 0x40000) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_nobody_starves_process_1(machine: Machine) -> None:
    for name in syscalls.ON_A_PROCESS:
        assert ask(machine, name, 1) == ask(machine, name, 1 | 1 << 32) == EPERM
        assert ask(machine, name, 0) == ask(machine, name, 2) == ALLOW
    assert ask(machine, "setpriority", 0, 1, 19) == ask(machine, "setpriority", 2, 0, 19) == EPERM
    assert ask(machine, "setpriority", 0, 0, 19) == ask(machine, "setpriority", 0, 7, 5) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_local_socket_pairs_only(machine: Machine) -> None:
    assert ask(machine, "socketpair", 1, 1, 0) == ALLOW
    assert ask(machine, "socketpair", 30, 1, 0) == NO_FAMILY  # TIPC


@pytest.mark.parametrize("machine", MACHINES)
def test_the_kernel_would_load_it(machine: Machine) -> None:
    code = list(struct.iter_unpack("=HBBI", program(machine, tuple(syscalls.CONDITIONAL))))

    assert len(code) <= 4096  # BPF_MAXINSNS
    assert code[-1][0] == 0x06
    for index, (operation, yes, no, _) in enumerate(code):
        assert operation not in (0x15, 0x35, 0x45) or index + 1 + max(yes, no) < len(code)
