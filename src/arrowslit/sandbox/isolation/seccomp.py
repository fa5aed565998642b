"""PURE: the filter of system calls that every sandbox runs under, as the bytes of a classic BPF program.

It is assembled here so that a reviewer reads all of it; `bwrap --seccomp FD` takes the bytes as they are. The words of
the machine: linux/filter.h, linux/seccomp.h (`struct seccomp_data`: nr at 0, arch at 4, six 64-bit arguments from 16).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from arrowslit.sandbox.isolation import syscalls

Machine = Literal["x86_64", "aarch64"]
MACHINES: tuple[Machine, ...] = ("x86_64", "aarch64")

LOAD, EQUAL, GREATER_OR_EQUAL, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32 = 0x40000000  # this bit in a number asks for the x32 ABI

ALLOW = 0x7FFF0000
KILL = 0x80000000  # the process, as if by SIGSYS

NEW_NAMESPACE = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
TERMINAL_TRICKS = (0x5412, 0x541C, 0x541D, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # as container runtimes have it: not ADDR_NO_RANDOMIZE
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, NETLINK_ROUTE = 1, 2, 10, 16, 0
PRIO_USER = 2
SOCKET_TYPE, STREAM, DATAGRAM = 0xF, 1, 2  # the other bits of a type are flags
INTERNET_PROTOCOLS = (0, 6, 17)  # any, TCP, UDP


class Instruction(NamedTuple):
    """One `struct sock_filter`: if true, skip `yes` instructions, else `no`."""

    code: int
    yes: int
    no: int
    k: int


def refuse(number: int) -> int:
    """SECCOMP_RET_ERRNO with that errno."""
    return 0x00050000 | number


def program(machine: Machine, also_refused: Collection[str] = ()) -> bytes:
    """The filter for one machine. `also_refused` are names of `syscalls.CONDITIONAL`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in assemble(machine, also_refused))


def assemble(machine: Machine, also_refused: Collection[str] = ()) -> Sequence[Instruction]:
    """The same as instructions. Every branch ends in an answer; what nobody refuses is allowed."""
    conditional = {name: syscalls.CONDITIONAL[name] for name in also_refused}
    refused = _numbers(syscalls.REFUSED, machine) + _numbers(conditional, machine)
    clone, socket, socketpair, ioctl, personality, setpriority = _numbers(syscalls.JUDGED, machine)
    return [
        Instruction(LOAD, 0, 0, 4),
        *_unless(EQUAL, AUDIT_ARCH[machine], KILL),  # int 0x80 on x86-64, 32-bit programs
        Instruction(LOAD, 0, 0, 0),
        *(_if(GREATER_OR_EQUAL, X32, KILL) if machine == "x86_64" else ()),
        *_if(GREATER_OR_EQUAL, syscalls.NEWEST + 1, refuse(errno.ENOSYS)),
        *_any_of(sorted(refused), refuse(errno.EPERM)),
        *_any_of(_numbers(syscalls.ABSENT, machine), refuse(errno.ENOSYS)),
        *_case(clone, [*_argument(0), *_if(ANY_BIT, NEW_NAMESPACE, refuse(errno.EPERM)), _answer(ALLOW)]),
        *_case(ioctl, [*_argument(1), *_any_of(TERMINAL_TRICKS, refuse(errno.EPERM)), _answer(ALLOW)]),
        *_case(personality, [*_argument(0), *_any_of(PERSONALITIES, ALLOW), _answer(refuse(errno.EPERM))]),
        *_case(socketpair, [*_argument(0), *_if(EQUAL, AF_UNIX, ALLOW), _answer(_no_such_family())]),
        *_case(socket, _socket()),
        *_case(setpriority, _setpriority()),
        *_any_of_case(
            _numbers(syscalls.ON_A_PROCESS, machine),
            [*_argument(0), *_if(EQUAL, 1, refuse(errno.EPERM)), _answer(ALLOW)],
        ),
        _answer(ALLOW),
    ]


def _numbers(table: Mapping[str, syscalls.Numbers], machine: Machine) -> list[int]:
    return [number for number in (getattr(entry, machine) for entry in table.values()) if number is not None]


def _socket() -> list[Instruction]:
    """Local sockets, TCP and UDP, and the netlink that lists interfaces. Raw and packet sockets never."""
    internet = [
        *_argument(1),
        Instruction(AND, 0, 0, SOCKET_TYPE),
        *_unless_any_of((STREAM, DATAGRAM), refuse(errno.EPERM)),
        *_argument(2),
        *_any_of(INTERNET_PROTOCOLS, ALLOW),
        _answer(refuse(errno.EPROTONOSUPPORT)),
    ]
    netlink = [*_argument(2), *_if(EQUAL, NETLINK_ROUTE, ALLOW), _answer(_no_such_family())]
    return [
        *_argument(0),
        *_if(EQUAL, AF_UNIX, ALLOW),
        *_case(AF_NETLINK, netlink),
        *_unless_any_of((AF_INET, AF_INET6), _no_such_family()),
        *internet,
    ]


def _setpriority() -> list[Instruction]:
    """Of oneself, of other processes and groups; not of process 1, and not of all at once."""
    return [
        *_argument(0),
        *_if(EQUAL, PRIO_USER, refuse(errno.EPERM)),
        *_argument(1),
        *_if(EQUAL, 1, refuse(errno.EPERM)),
        _answer(ALLOW),
    ]


def _no_such_family() -> int:
    return refuse(errno.EAFNOSUPPORT)


def _answer(value: int) -> Instruction:
    return Instruction(RETURN, 0, 0, value)


def _argument(index: int) -> list[Instruction]:
    """Load the low half of an argument: the kernel reads no more of those we judge (both machines: little endian)."""
    return [Instruction(LOAD, 0, 0, 16 + 8 * index)]


def _if(test: int, value: int, answer: int) -> list[Instruction]:
    return [Instruction(test, 0, 1, value), _answer(answer)]


def _unless(test: int, value: int, answer: int) -> list[Instruction]:
    return [Instruction(test, 1, 0, value), _answer(answer)]


def _any_of(values: Sequence[int], answer: int) -> list[Instruction]:
    """Answer if the accumulator is one of the values (at most 255: a jump is one byte)."""
    last = len(values)
    tests = [Instruction(EQUAL, last - index - 1, int(index == last - 1), value) for index, value in enumerate(values)]
    return [*tests, _answer(answer)]


def _unless_any_of(values: Sequence[int], answer: int) -> list[Instruction]:
    last = len(values)
    tests = [Instruction(EQUAL, last - index, 0, value) for index, value in enumerate(values)]
    return [*tests, _answer(answer)]


def _case(value: int, body: Sequence[Instruction]) -> list[Instruction]:
    """Run `body`, which ends in an answer, if the accumulator has this value."""
    return [Instruction(EQUAL, 0, len(body), value), *body]


def _any_of_case(values: Sequence[int], body: Sequence[Instruction]) -> list[Instruction]:
    """Run `body`, which ends in an answer, if the accumulator has one of these values."""
    last = len(values) - 1
    tests = [
        Instruction(EQUAL, last - index, len(body) if index == last else 0, value) for index, value in enumerate(values)
    ]
    return [*tests, *body]
