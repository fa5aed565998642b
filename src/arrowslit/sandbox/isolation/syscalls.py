"""PURE: the system calls that sandboxed code has no business with, and their numbers on the machines we know.

Numbers: Linux `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h` (aarch64). From 424 on
they are the same on both. The tests hold the whole tables against these.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

NEWEST = 462  # mseal, Linux 6.10: what came later, nobody has judged yet


class Numbers(NamedTuple):
    """The number of one system call. None: that machine does not have it."""

    x86_64: int | None
    aarch64: int | None


def _both(number: int) -> Numbers:
    return Numbers(number, number)


REFUSED: Mapping[str, Numbers] = MappingProxyType(
    {
        # mounts and roots
        "mount": Numbers(165, 40),
        "umount2": Numbers(166, 39),
        "pivot_root": Numbers(155, 41),
        "chroot": Numbers(161, 51),
        "open_tree": _both(428),
        "move_mount": _both(429),
        "fsopen": _both(430),
        "fsconfig": _both(431),
        "fsmount": _both(432),
        "fspick": _both(433),
        "mount_setattr": _both(442),
        "statmount": _both(457),
        "listmount": _both(458),
        # namespaces; of clone only some flags are refused, see seccomp.py
        "unshare": Numbers(272, 97),
        "setns": Numbers(308, 268),
        # other processes
        "ptrace": Numbers(101, 117),
        "process_vm_readv": Numbers(310, 270),
        "process_vm_writev": Numbers(311, 271),
        "process_madvise": _both(440),
        "pidfd_getfd": _both(438),
        "kcmp": Numbers(312, 272),
        # large parts of the kernel with a history
        "perf_event_open": Numbers(298, 241),
        "bpf": Numbers(321, 280),
        "userfaultfd": Numbers(323, 282),
        "add_key": Numbers(248, 217),
        "request_key": Numbers(249, 218),
        "keyctl": Numbers(250, 219),
        "fanotify_init": Numbers(300, 262),
        "fanotify_mark": Numbers(301, 263),
        "name_to_handle_at": Numbers(303, 264),
        "open_by_handle_at": Numbers(304, 265),
        "lookup_dcookie": Numbers(212, 18),
        "memfd_secret": _both(447),
        "mbind": Numbers(237, 235),
        "set_mempolicy": Numbers(238, 237),
        "set_mempolicy_home_node": _both(450),
        "migrate_pages": Numbers(256, 238),
        "move_pages": Numbers(279, 239),
        "lsm_set_self_attr": _both(460),
        "io_setup": Numbers(206, 0),  # all the machine's users share fs.aio-max-nr
        # the machine itself
        "init_module": Numbers(175, 105),
        "finit_module": Numbers(313, 273),
        "delete_module": Numbers(176, 106),
        "kexec_load": Numbers(246, 104),
        "kexec_file_load": Numbers(320, 294),
        "reboot": Numbers(169, 142),
        "swapon": Numbers(167, 224),
        "swapoff": Numbers(168, 225),
        "acct": Numbers(163, 89),
        "quotactl": Numbers(179, 60),
        "quotactl_fd": _both(443),
        "settimeofday": Numbers(164, 170),
        "clock_settime": Numbers(227, 112),
        "adjtimex": Numbers(159, 171),
        "clock_adjtime": Numbers(305, 266),
        "sethostname": Numbers(170, 161),
        "setdomainname": Numbers(171, 162),
        "syslog": Numbers(103, 116),
        "vhangup": Numbers(153, 58),
        "nfsservctl": Numbers(180, 42),
        "iopl": Numbers(172, None),
        "ioperm": Numbers(173, None),
        "modify_ldt": Numbers(154, None),
        "uselib": Numbers(134, None),
        "ustat": Numbers(136, None),
        "sysfs": Numbers(139, None),
        "_sysctl": Numbers(156, None),
        "ioprio_set": Numbers(251, 30),  # of process 1, too; nobody needs it in memory
    }
)
"""Answered with EPERM."""

ABSENT: Mapping[str, Numbers] = MappingProxyType(
    {
        "io_uring_setup": _both(425),
        "io_uring_enter": _both(426),
        "io_uring_register": _both(427),
        "clone3": _both(435),  # its flags lie in memory, where a filter cannot look; libraries then use clone
    }
)
"""Answered with ENOSYS, as by a kernel that lacks them: programs know how to go on."""

JUDGED: Mapping[str, Numbers] = MappingProxyType(
    {
        "clone": Numbers(56, 220),
        "socket": Numbers(41, 198),
        "socketpair": Numbers(53, 199),
        "ioctl": Numbers(16, 29),
        "personality": Numbers(135, 92),
        "setpriority": Numbers(141, 140),
    }
)
"""Answered by their arguments, see seccomp.py."""

ON_A_PROCESS: Mapping[str, Numbers] = MappingProxyType(
    {
        "prlimit64": Numbers(302, 261),
        "sched_setparam": Numbers(142, 118),
        "sched_setscheduler": Numbers(144, 119),
        "sched_setattr": Numbers(314, 274),
        "sched_setaffinity": Numbers(203, 122),
    }
)
"""Refused on process 1, the runner: a command that starves it would outlive its own deadline."""

CONDITIONAL: Mapping[str, Numbers] = MappingProxyType(
    {"sched_setaffinity": Numbers(203, 122), "memfd_create": Numbers(319, 279)}
)
"""Refused (EPERM) only where a limit rests on it, because no cgroup holds it."""
