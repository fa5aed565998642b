"""More attacks, of the kinds that a list of known ones leaves out: spellings of what is refused, files that are handed
in, allowances that are shared, and what belongs to process 1.
"""

# ruff: noqa: E501 the attacks are shown as they are run

from __future__ import annotations

from tests.sandbox.attacks import NO_CALL, NOT_PERMITTED, py, sh

FILTER = """
def own(action):
    "A filter of one's own that answers every call so"
    code = struct.pack("HBBI", 6, 0, 0, action)
    held = ctypes.create_string_buffer(code, 8)
    return sc("seccomp", 1, 0, struct.pack("HxxxxxxQ", 1, ctypes.addressof(held)))
"""

SPELLINGS = [
    py("the-high-half-of-a-family", "r,e=sc('socket',40|1<<32,1,0); print('ESCAPED' if r>=0 else 'blocked',r,e)", r"^blocked -1 97$"),
    py("the-high-half-of-a-flag", "r,e=sc('clone',0x10000000|17|1<<33,0,0,0,0)\nif r==0: os._exit(0)\nprint('ESCAPED' if r>0 else 'blocked',r,e)", r"^blocked -1 1$"),
    py("the-high-half-of-a-terminal-trick", "import pty\nm,s=pty.openpty(); t('ioctl',s,0x5412|1<<40,b'x')", NOT_PERMITTED),
    py("the-high-half-of-process-1", "t('sched_setaffinity',1|1<<32,8,struct.pack('Q',1))", NOT_PERMITTED),
    py("a-number-beyond-all", "t(0x3fffffff,0)", NO_CALL),
    py("calls-that-came-later", "[t(n,0,0,0,0) for n in range(463,520)]", NO_CALL),
    py("each-namespace-by-unshare", "[t('unshare',flag) for flag in (0x20000,0x2000000,0x4000000,0x8000000,0x10000000,0x20000000,0x40000000,0x80,0)]", NOT_PERMITTED),
    py("each-namespace-by-setns", "[t('setns',os.open('/proc/self/ns/'+n,0),0) for n in os.listdir('/proc/self/ns')]", NOT_PERMITTED),
    py("all-namespaces-of-a-process", "r,e=sc('pidfd_open',1,0); t('setns',r,0x7e020000)", NOT_PERMITTED),
    py("vfork-with-a-namespace", "t('clone',0x4000|0x100|0x10000000,0,0,0,0)", NOT_PERMITTED),
    py("a-filter-of-ones-own-loosens-nothing", FILTER + "print(own(0x7fff0000)[0]); t('unshare',0x10000000); t('mount',b'x',b'/tmp',b'tmpfs',0,0)", NOT_PERMITTED),
    py("a-filter-that-logs", FILTER + "own(0x7ffc0000); t('keyctl',0,-3,0)", NOT_PERMITTED),
    py("no-new-privileges-for-good", "t('prctl',38,0,0,0,0)"),
    py("more-bits-of-security", "t('prctl',28,0x2f,0,0,0); t('prctl',47,2,21,0,0)", NOT_PERMITTED),
    py("capabilities-by-a-file", "open('c','w').close(); may=lambda: os.setxattr('c','security.capability',struct.pack('<5I',0x02000001,0xffffffff,0,0xffffffff,0))\ntry: may(); print('ESCAPED')\nexcept OSError as e: print('blocked',e)"),
    py("trusted-attributes", "open('c','w').close()\nfor n in ('trusted.x','security.capability','system.posix_acl_access'):\n try: os.setxattr('c',n,b'x'); print('ESCAPED')\n except OSError as e: print('blocked',e)"),
]  # fmt: skip

FILES = [
    sh("hard-link-to-the-system", "for f in /etc/passwd /usr/bin/su /run/arrowslit/runner.py /proc/1/exe; do ln $f x && echo ESCAPED; ln -L $f y && echo ESCAPED; done; echo blocked"),
    sh("hard-link-between-places", "echo x > a; ln a /tmp/a && echo ESCAPED; ln a /dev/shm/a && echo ESCAPED; echo blocked"),
    py("hard-link-to-a-file-without-a-name", "fd=os.open('/usr/bin/su',os.O_PATH); t('linkat',fd,b'',-100,b'/workspace/su',0x1000); t('linkat',-100,b'/proc/self/fd/%d'%fd,-100,b'/workspace/su2',0x400)"),
    py("devices-by-mknod", "[t('mknod',b'/workspace/m%d'%n,kind|0o666,dev) for n,(kind,dev) in enumerate(((0o20000,0x101),(0o60000,0xfe00),(0o20000,0x10a)))]", NOT_PERMITTED),
    py("a-handle-of-a-file", "b=ctypes.create_string_buffer(struct.pack('Ii',128,0),136); m=ctypes.c_int(); refused('name_to_handle_at',-100,b'/usr',b,ctypes.byref(m),0)", NOT_PERMITTED),
    sh("every-setuid-program", "for p in $(find / -xdev -perm /6000 2>/dev/null); do grep -E '^(CapEff|Uid)' /proc/self/status >/dev/null; done; chmod 6755 $(cp /usr/bin/id id; echo id); ./id | grep -E 'euid|egid' && echo ESCAPED; newgrp root </dev/null && echo ESCAPED; mount -t tmpfs x /tmp && echo ESCAPED; passwd -d root && echo ESCAPED; echo blocked"),
    py("a-program-in-memory", "try: fd=os.memfd_create('x')\nexcept OSError as e: print('blocked',e); raise SystemExit\nos.write(fd,open('/usr/bin/id','rb').read()); os.fchmod(fd,0o6755)\nif os.fork()==0: os.execve(fd,['id','-u'],{})\nos.wait(); print('blocked: it is who it was')"),
    sh("the-interpreter-of-process-1", "for f in /usr/bin/python3 /proc/1/exe /usr/lib/python3*/os.py; do (echo x >> $f) && echo ESCAPED; done; echo blocked"),
    sh("names-of-the-host", "[ $(uname -n) = sandbox ] && [ $(hostname 2>/dev/null || echo sandbox) = sandbox ] && ! ls /etc/hostname /etc/machine-id && echo blocked"),
    sh("accounts-of-the-host", "grep -vE '^(root|sandbox|nobody|nogroup):' /etc/passwd /etc/group | grep . && echo ESCAPED; getent passwd | wc -l | grep -x 3 && echo blocked"),
    sh("private-keys-of-the-system", "find /etc /usr/local/etc /run -xdev \\( -name '*.key' -o -name 'ssh_host*' -o -path '*private*' \\) 2>/dev/null | grep . && echo ESCAPED; cat /etc/ssl/private/* && echo ESCAPED; echo blocked"),
    sh("what-a-login-shell-reads", "echo 'echo ESCAPED' | tee ~/.bashrc ~/.profile ~/.bash_logout > /dev/null; export BASH_ENV=~/.bashrc ENV=~/.bashrc; echo blocked"),
    sh("what-the-next-command-reads", "[ -z \"$BASH_ENV$ENV\" ] && echo blocked"),
    sh("what-git-runs", "git init -q . && git config core.fsmonitor 'touch /workspace/ran; false' && mkdir -p .git/hooks && printf '#!/bin/sh\\ntouch /workspace/ran\\n' > .git/hooks/post-checkout && chmod +x .git/hooks/*; ls /workspace/.git >/dev/null && echo blocked"),
]  # fmt: skip

PROCESS_1 = [
    py("no-file-of-process-1-is-changed", """
for top, _, names in os.walk('/proc/1'):
    for name in names:
        try:
            with open(f'{top}/{name}', 'wb', 0) as file: file.write(b'1'); print('ESCAPED', top, name)
        except OSError: pass
print('blocked')"""),
    py("nothing-else-of-proc-is-changed", """
for top, folders, names in os.walk('/proc'):
    if top == '/proc': folders[:] = [f for f in folders if not f.isdigit() and f not in ('self', 'thread-self')]
    for name in names:
        try:
            with open(f'{top}/{name}', 'wb', 0) as file: file.write(b'1'); print('ESCAPED', top, name)
        except OSError: pass
print('blocked')"""),
    py("signals-of-every-kind", "[os.kill(1,n) for n in range(1,65) if n not in (32,33)]; print('blocked: still there')"),
    py("signals-with-a-message", "b=ctypes.create_string_buffer(struct.pack('iii',9,0,-1),128); sc('rt_sigqueueinfo',1,9,b); sc('tgkill',1,1,9); r,e=sc('pidfd_open',1,0); sc('pidfd_send_signal',r,9,0,0); print('blocked: still there')"),
    py("a-flood-of-signals", "import time\nend=time.monotonic()+0.3\nwhile time.monotonic()<end: os.kill(1,17)\nprint('blocked: still there')"),
    py("children-without-end", "import time\nend=time.monotonic()+0.3\nwhile time.monotonic()<end:\n if os.fork()==0: os.setsid(); os._exit(0)\n os.wait()\nprint('blocked: still there')"),
    py("memory-by-madvise", "r,e=sc('pidfd_open',1,0); refused('process_madvise',r,0,0,4,0); t('process_mrelease',r,0)"),
    py("comparing-with-process-1", "refused('kcmp',os.getpid(),1,0,0,0)", NOT_PERMITTED),
    py("robust-lists", "a=ctypes.c_void_p(); n=ctypes.c_size_t(); t('get_robust_list',1,ctypes.byref(a),ctypes.byref(n))"),
    py("a-descriptor-of-process-1", "[op('/proc/1/'+n,0) for n in ('fd/3','fd/0','exe','cwd','root','mem','environ','maps','auxv','stack','syscall','map_files','ns/net')]"),
    py("becoming-process-1", "try: open('/proc/sys/kernel/ns_last_pid','w'); print('ESCAPED')\nexcept OSError as e: print('blocked',e)"),
    py("joining-its-session", "t('setpgid',0,1); t('setpgid',1,0)"),
]  # fmt: skip

SHARED = [
    py("pressure-of-the-machine", "import select\ntry:\n fd=os.open('/proc/pressure/cpu',os.O_RDWR); os.write(fd,b'some 1 1000'); print('ESCAPED')\nexcept OSError as e: print('blocked',e)"),
    py("a-lock-on-memory", "t('mlock',ctypes.create_string_buffer(1<<20),1<<20)"),
    py("huge-pages", "import mmap\n_libc.mmap.restype=ctypes.c_void_p\np=_libc.mmap(None,ctypes.c_size_t(1<<30),3,0x40022,-1,ctypes.c_long(0)); print('blocked' if p==2**64-1 else 'ESCAPED')"),
    py("message-queues", "t('mq_open',b'q',0o102,0o600,0)"),
    py("timers-without-end", "n=0\nwhile n<5000:\n i=ctypes.c_int(); r,e=sc('timer_create',0,0,ctypes.byref(i))\n if r<0: break\n n+=1\nprint('blocked' if n<=512 else 'ESCAPED',n)"),
    py("signals-that-wait", "import signal\nsignal.pthread_sigmask(0,{40}); n=0\nb=ctypes.create_string_buffer(struct.pack('iii',40,0,-1),128)\nwhile n<5000 and sc('rt_sigqueueinfo',os.getpid(),40,b)[0]==0: n+=1\nprint('blocked' if n<=512 else 'ESCAPED',n)"),
    py("realtime-by-deadline", "b=struct.pack('IIQiIQQQ',48,6,0,0,0,10**6,10**7,10**7); t('sched_setattr',0,b,0)", NOT_PERMITTED),
    py("the-clock", "t('clock_settime',0,struct.pack('qq',1,0)); op('/dev/rtc0'); t('clock_adjtime',0,b'\\0'*208)"),
    sh("time-namespace", "echo 'monotonic 1000 0' > /proc/self/timens_offsets && echo ESCAPED || echo blocked"),
    sh("ids-of-others", "echo 0 > /proc/self/loginuid && echo ESCAPED; echo '1 1 1' > /proc/self/gid_map && echo ESCAPED; echo allow > /proc/self/setgroups && echo ESCAPED; echo blocked"),
    py("keys-of-the-user", "print('ESCAPED' if open('/proc/keys').read().strip() else 'blocked')"),
    sh("a-sandbox-in-the-sandbox", "command -v bwrap >/dev/null || { echo blocked; exit; }; bwrap --ro-bind / / true && echo ESCAPED || echo blocked"),
    sh("another-root", "chroot / true && echo ESCAPED; unshare -r true && echo ESCAPED; unshare -m true && echo ESCAPED; unshare -p -f true && echo ESCAPED; nsenter -t 1 -m true && echo ESCAPED; echo blocked"),
    sh("tracing", "command -v strace >/dev/null && strace -o /dev/null true && echo ESCAPED; command -v gdb >/dev/null && gdb -p 1 -batch && echo ESCAPED; echo blocked"),
]  # fmt: skip

INVENTIONS = {"SBX-09": [*SPELLINGS, *PROCESS_1, *SHARED], "SBX-04": FILES}
"""By the cases of the security list that they are like."""
