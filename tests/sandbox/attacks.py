"""Attacks on a sandbox by sandboxed code: what is run inside, and what a good sandbox answers.

The numbers are those of the list that this grew from. {FILE}, {ABSTRACT}, {PORT}, {PID} and {WORKER} are canaries.
"""

# ruff: noqa: E501 the attacks are shown as they are run

from __future__ import annotations

from typing import NamedTuple


class Attack(NamedTuple):
    """One attack. It passes if `ESCAPED` is not said and `answer` (a pattern) is."""

    id: str
    command: str
    answer: str = r"^blocked"
    python: bool = False


def sh(id: str, command: str, answer: str = r"^blocked") -> Attack:
    return Attack(id, command, answer)


def py(id: str, command: str, answer: str = r"^blocked") -> Attack:
    return Attack(id, command, answer, python=True)


NOT_PERMITTED, NO_CALL, NO_FAMILY = r"^blocked .* EPERM$", r"^blocked .* ENOSYS$", r"^blocked .* EAFNOSUPPORT$"

LOOK = [
    sh("1-environment", "env | grep -q CANARY && echo ESCAPED || echo blocked: not in env"),
    sh(
        "1-environment-of-any-process",
        "cat /proc/*/environ 2>/dev/null | grep -qa CANARY && echo ESCAPED || echo blocked",
    ),
    sh("3-environment-of-process-1", "cat /proc/1/environ >/dev/null && echo ESCAPED || echo blocked"),
    sh("4-memory-of-process-1", "head -c1 /proc/1/mem >/dev/null && echo ESCAPED || echo blocked"),
    sh("4-maps-of-process-1", '[ -n "$(cat /proc/1/maps)" ] && echo ESCAPED || echo blocked'),
    sh("6-root-of-process-1", "ls /proc/1/root/ && echo ESCAPED || echo blocked"),
    sh("6-folder-of-process-1", "ls /proc/1/cwd/ && echo ESCAPED || echo blocked"),
    sh("6-files-of-process-1", "ls /proc/1/fd/ && echo ESCAPED || echo blocked"),
    sh("7-a-key-in-a-home", "cat /home/*/.ssh/* /root/.ssh/* ~root/.ssh/id_rsa && echo ESCAPED || echo blocked"),
    sh("7-a-file-of-the-host", "cat {FILE} && echo ESCAPED || echo blocked"),
    sh("9-shadow", "cat /etc/shadow || cat /etc/gshadow && echo ESCAPED || echo blocked"),
    sh(
        "10-homes",
        "ls -d /root /home /var /opt /srv /mnt /sys /boot /media 2>/dev/null | grep . && echo ESCAPED || echo blocked",
    ),
    sh("12-inherited-files", "ls /proc/self/fd | tr '\\n' ' '", r"^0 1 2 3 $"),
    sh(
        "12-no-file-leads-out",
        "for n in 0 1 2; do readlink /proc/self/fd/$n; done | grep -vE '^(/dev/null|pipe:.*)$' && echo ESCAPED || echo blocked",
    ),
    py("13-kcore", "op('/proc/kcore')"),
    py("15-kernel-log", "b=ctypes.create_string_buffer(4096); refused('syslog',3,b,4096)", NOT_PERMITTED),
    sh("15-kmsg", "cat /dev/kmsg || head -c1 /proc/kmsg && echo ESCAPED || echo blocked"),
    sh("16-keys", "[ -s /proc/keys ] && head -3 /proc/keys && echo ESCAPED || echo blocked"),
    sh(
        "18-addresses-of-the-kernel",
        "awk '$1!~/^0+$/{print;exit}' /proc/kallsyms | grep . && echo ESCAPED || echo blocked",
    ),
    sh("18-modules", "awk '$6!~/^0x0+$/{print;exit}' /proc/modules | grep . && echo ESCAPED || echo blocked"),
    sh(
        "19-mounts-of-the-host",
        "grep -vE ' /workspace ' /proc/self/mountinfo | grep -E ' /(work|home|root|tmp/[^ ]+)/' && echo ESCAPED || echo blocked",
    ),
    sh("108-cgroup-path", "grep -vE ':/$' /proc/self/cgroup && echo ESCAPED || echo blocked"),
    sh("108-cgroup-files", "ls -d /sys/fs/cgroup /sys | grep . && echo ESCAPED || echo blocked"),
    sh("126-symlink-to-a-host-file", "ln -sf {FILE} l; cat l && echo ESCAPED || echo blocked"),
    sh("126-by-way-of-proc", "cat /proc/self/root/{FILE} /proc/self/cwd/../{FILE} && echo ESCAPED || echo blocked"),
    sh("H4-up-and-out", "cat ../../../..{FILE} && echo ESCAPED || echo blocked"),
    sh("processes-of-the-host", "ls /proc | grep -cE '^[0-9]+$'", r"^[1-9]$"),
]

DEVICES = [
    py(f"{number}-device-{path.rpartition('/')[2]}", f"op('{path}')")
    for number, path in (
        ("21", "/dev/kvm"), ("22", "/dev/fuse"), ("24", "/dev/vda"), ("24", "/dev/sda"), ("25", "/dev/vsock"),
        ("27", "/dev/loop-control"), ("27", "/dev/loop0"), ("28", "/dev/ptmx0"), ("28", "/dev/mem"), ("28", "/dev/net/tun"),
        ("28", "/dev/mapper/control"), ("28", "/dev/tty0"), ("28", "/dev/console"),
    )
]  # fmt: skip

CHANGE = [
    py("H11-every-kernel-setting", "for at,_,names in os.walk('/proc/sys'):\n for n in names: op(at+'/'+n,os.O_WRONLY)"),
    sh("H12-its-own-limits", "find / -name 'memory.max' -o -name 'memory.limit_in_bytes' -o -name 'cgroup.procs' 2>/dev/null | grep . && echo ESCAPED || echo blocked"),
    py("30-core-pattern", "op('/proc/sys/kernel/core_pattern',os.O_WRONLY)"),
    py("30-modprobe", "op('/proc/sys/kernel/modprobe',os.O_WRONLY)"),
    py("30-binfmt", "op('/proc/sys/fs/binfmt_misc/register',os.O_WRONLY)"),
    py("30-vm", "op('/proc/sys/vm/drop_caches',os.O_WRONLY)"),
    py("31-sysrq", "op('/proc/sysrq-trigger',os.O_WRONLY)"),
    py("33-mount-tmpfs", "t('mount',b'x',b'/tmp',b'tmpfs',0,0)", NOT_PERMITTED),
    py("34-bind-mount", "t('mount',b'/usr',b'/tmp',0,4096,0)", NOT_PERMITTED),
    py("34-remount", "t('mount',0,b'/',0,32|4096,0)", NOT_PERMITTED),
    py("36-unmount-proc", "t('umount2',b'/proc',2)", NOT_PERMITTED),
    py("37-fsopen", "t('fsopen',b'tmpfs',0)", NOT_PERMITTED),
    py("37-open-tree", "refused('open_tree',-100,b'/',1)", NOT_PERMITTED),
    py("37-move-mount", "refused('move_mount',-100,b'/',-100,b'/tmp',0)", NOT_PERMITTED),
    py("39-mount-setattr", "refused('mount_setattr',-100,b'/',0,0,0)", NOT_PERMITTED),
    py("40-pivot-root", "t('pivot_root',b'/tmp',b'/tmp')", NOT_PERMITTED),
    py("40-chroot", "t('chroot',b'/tmp')", NOT_PERMITTED),
    py("42-unshare-user", "t('unshare',0x10000000)", NOT_PERMITTED),
    py("43-unshare-mount", "t('unshare',0x20000)", NOT_PERMITTED),
    sh("45-unshare-command", "unshare -Ur true && echo ESCAPED || echo blocked"),
    py(
        "46-clone-with-a-user-namespace",
        "r,e=sc('clone',0x10000000|17,0,0,0,0)\nif r==0: os._exit(0)\nprint('ESCAPED' if r>0 else 'blocked',r,e)",
        r"^blocked -1 1$",
    ),
    py("46-clone3", "b=ctypes.create_string_buffer(88); t('clone3',b,88,ok=lambda r,e:e!=errno.ENOSYS)", NO_CALL),
    py("48-setns", "fd=os.open('/proc/self/ns/net',0); t('setns',fd,0)", NOT_PERMITTED),
    py("48-setns-of-process-1", "op('/proc/1/ns/net',0)"),
    py("49-ptrace-process-1", "t('ptrace',16,1,0,0)", NOT_PERMITTED),
    py("49-memory-of-process-1", "refused('process_vm_readv',1,0,0,0,0,0)", NOT_PERMITTED),
    py("51-file-of-process-1", "r,e=sc('pidfd_open',1,0); t('pidfd_getfd',r,0,0)", NOT_PERMITTED),
    py("52-keyctl", "t('keyctl',0,-3,0)", NOT_PERMITTED),
    py("52-add-key", "t('add_key',b'user',b'k',b'v',1,-3)", NOT_PERMITTED),
    py("54-request-key", "refused('request_key',b'user',b'nokey',0,-4)", NOT_PERMITTED),
    py("55-bpf", "refused('bpf',0,b'\\0'*128,128)", NOT_PERMITTED),
    py("55-perf", "refused('perf_event_open',b'\\0'*128,0,-1,-1,0)", NOT_PERMITTED),
    py("57-io-uring", "t('io_uring_setup',8,b'\\0'*120)", NO_CALL),
    py("58-userfaultfd", "t('userfaultfd',1)", NOT_PERMITTED),
    py("58-fanotify", "t('fanotify_init',0,0)", NOT_PERMITTED),
    py("58-file-handle", "refused('open_by_handle_at',-100,b'\\0'*64,0)", NOT_PERMITTED),
    py("60-init-module", "refused('init_module',b'',0,b'')", NOT_PERMITTED),
    py("61-kexec", "refused('kexec_load',0,0,0,0)", NOT_PERMITTED),
    py("61-reboot", "refused('reboot',0,0,0,0)", NOT_PERMITTED),
    py("63-swapon", "refused('swapon',b'/x',0)", NOT_PERMITTED),
    py("64-settimeofday", "refused('settimeofday',0,0)", NOT_PERMITTED),
    py("64-clock-settime", "refused('clock_settime',0,struct.pack('qq',1,0))", NOT_PERMITTED),
    py("64-adjtimex", "refused('adjtimex',b'\\0'*256)", NOT_PERMITTED),
    py("64-hostname", "t('sethostname',b'x',1)", NOT_PERMITTED),
    py("66-iopl", "t('iopl',3) if 'iopl' in NUMBERS else print('blocked iopl -1 EPERM')", NOT_PERMITTED),
    py("67-acct", "refused('acct',0)", NOT_PERMITTED),
    py("70-push-input", "import pty,fcntl\nm,s=pty.openpty()\ntry: fcntl.ioctl(s,0x5412,b'x'); print('ESCAPED')\nexcept OSError as e: print('blocked',e)"),
    py("70-the-workers-terminal", "op('/dev/tty')"),
    sh(
        "72-setuid-program",
        "cp /usr/bin/id suid_id; chmod 4755 suid_id; [ \"$(./suid_id -u)\" = 0 ] && echo ESCAPED || echo blocked $(./suid_id -u)",
        r"^blocked 1000$",
    ),
    py("75-setuid-0", "t('setuid',0)"),
    py("75-setgroups", "t('setgroups',1,struct.pack('I',0))"),
    py("76-capabilities", "h=struct.pack('<II',0x20080522,0);d=struct.pack('<6I',*[0xffffffff]*6); t('capset',h,d)", NOT_PERMITTED),
    py("78-raise-a-limit", "import resource\ntry: resource.setrlimit(resource.RLIMIT_NPROC,(99999,99999)); print('ESCAPED')\nexcept Exception as e: print('blocked',e)"),
    sh("79-never-killed-for-memory", "echo -1000 > /proc/self/oom_score_adj && echo ESCAPED || echo blocked"),
    py("81-realtime", "try: os.sched_setscheduler(0,os.SCHED_FIFO,os.sched_param(50)); print('ESCAPED')\nexcept OSError as e: print('blocked',e)"),
    py("81-higher-priority", "try: os.nice(-5); print('ESCAPED')\nexcept OSError as e: print('blocked',e)"),
    py("81-starve-process-1", "t('sched_setscheduler',1,5,struct.pack('i',0))", NOT_PERMITTED),
    py("81-nice-process-1", "t('setpriority',0,1,19)", NOT_PERMITTED),
    py("81-nice-everybody", "t('setpriority',2,0,19)", NOT_PERMITTED),
    py("81-one-processor-for-process-1", "t('sched_setaffinity',1,8,struct.pack('Q',1))", NOT_PERMITTED),
    py("81-disk-priority-of-process-1", "t('ioprio_set',1,1,(3<<13)|7)", NOT_PERMITTED),
    py("58-all-of-the-machines-aio", "c=ctypes.c_ulong(0); t('io_setup',60000,ctypes.byref(c))", NOT_PERMITTED),
    py("81-limit-process-1", "t('prlimit64',1,7,struct.pack('QQ',0,0),0)", NOT_PERMITTED),
    py("81-oom-score-of-process-1", "op('/proc/1/oom_score_adj',os.O_WRONLY)"),
    sh("105-overwrite-the-runner", "echo x > /run/arrowslit/runner.py && echo ESCAPED || echo blocked"),
    sh("105-remove-the-runner", "rm -f /run/arrowslit/runner.py && echo ESCAPED || echo blocked"),
    sh("106-rename-over-a-bind", "mv /run/arrowslit /run/y && echo ESCAPED || echo blocked"),
    sh("106-write-the-system", "for p in / /usr /etc /run /run/arrowslit /dev /dev/pts /proc /proc/sys; do touch $p/x && echo ESCAPED $p; done; echo blocked"),
    sh("106-change-modes", "for p in / /usr /etc /run /dev /proc; do chmod 777 $p && echo ESCAPED $p; done; echo blocked"),
    sh("106-map-more-users", "echo '0 0 1' > /proc/self/uid_map && echo ESCAPED || echo blocked"),
]  # fmt: skip

REACH = [
    py("82-abstract-socket", "s=socket.socket(1)\ntry: s.connect('\\0{ABSTRACT}'); print('ESCAPED')\nexcept OSError as e: print('blocked',e)"),
    sh("84-sockets-of-services", "ls /run/dbus /run/user /var/run/docker.sock /run/podman /run/containerd /tmp/.X11-unix 2>/dev/null | grep . && echo ESCAPED || echo blocked"),
    sh("84-any-socket-file", "find / -xdev -type s 2>/dev/null | grep . && echo ESCAPED || echo blocked"),
    sh("85-shared-memory", "grep -w 40961 /proc/sysvipc/shm && echo ESCAPED || echo blocked"),
    sh("87-service-on-the-hosts-loopback", "exec 3<>/dev/tcp/127.0.0.1/{PORT} && echo ESCAPED || echo blocked"),
    *(
        py(f"{number}-family-{name}", f"t('socket',{family},{kind},0,ok=lambda r,e:r>=0 or e!=errno.EAFNOSUPPORT)", NO_FAMILY)
        for number, name, family, kind in (
            ("88", "vsock", 40, 1), ("90", "packet", 17, 3), ("91", "xdp", 44, 3), ("93", "bluetooth", 31, 3),
            ("94", "key", 15, 3), ("94", "alg", 38, 5), ("94", "tipc", 30, 1), ("94", "can", 29, 3),
        )
    ),
    py("96-raw", "t('socket',2,3,1)", NOT_PERMITTED),
    py("96-raw-6", "t('socket',10,3,58)", NOT_PERMITTED),
    py("96-old-packet", "t('socket',2,10,768)", NOT_PERMITTED),
    py("96-ping", "t('socket',2,2,1)"),
    py("97-netfilter", "t('socket',16,3,12)", NO_FAMILY),
    sh("99-interfaces", "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '", r"\Alo\n\Z"),
    *(
        py(
            f"99-{name}",
            f"s=socket.socket({family}); s.settimeout(2)\ntry: s.connect({address}); print('ESCAPED')\n"
            "except OSError as e: print('blocked',errno.errorcode.get(e.errno,e))",
            r"^blocked ENETUNREACH$",
        )
        for name, family, address in (
            ("metadata", 2, ("169.254.169.254", 80)),
            ("private", 2, ("10.0.2.2", 80)),
            ("public", 2, ("192.0.2.1", 80)),
            ("ipv6", 10, ("2001:db8::1", 80)),
            ("metadata-ipv6", 10, ("fd00:ec2::254", 80)),
        )
    ),
    py("99-udp", "s=socket.socket(2,2)\ntry: s.sendto(b'x',('192.0.2.1',53)); print('ESCAPED')\nexcept OSError as e: print('blocked',e)"),
    sh("99-names", "getent hosts example.com && echo ESCAPED || echo blocked"),
    sh("100-kill-a-process-of-the-host", "kill -9 {PID} {WORKER} && echo ESCAPED || echo blocked"),
    sh("102-kill-all", "kill -9 -1; echo blocked: x", r"^blocked: x$"),
    sh("102-kill-process-1", "for n in 9 19 2 15 1 17; do kill -$n 1; done; echo blocked"),
    sh("103-alive-after-kills", "echo blocked: runner alive"),
    sh("109-stdin", "cat; echo blocked: got EOF"),
    sh("123-preload", "export LD_PRELOAD=/workspace/evil.so; echo set", r"^set$"),
    sh("124-preload-persisted", "env | grep LD_PRELOAD && echo ESCAPED || echo blocked"),
]  # fmt: skip

ATTACKS = {
    "SBX-04 SBX-10": LOOK,
    "SBX-09": [*DEVICES, *CHANGE],
    "SBX-01 SBX-03": REACH,
}
"""By the cases of the security list that they belong to."""
