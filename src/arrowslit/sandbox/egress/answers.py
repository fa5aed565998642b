"""PURE: what the proxy answers itself, in a form that curl, pip and git show to whoever runs them."""

from __future__ import annotations

from arrowslit.policy.egress import Deny, Refusal

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

UNRECOGNIZED_NAME = b"\x15\x03\x01\x00\x02\x02\x70"
"""A fatal TLS alert (RFC 6066, 3): after 200 there is no other way to tell a TLS client what is wrong."""

_STATUS = {
    Refusal.LENGTH_REQUIRED: "411",
    Refusal.REQUEST_TOO_LARGE: "431",
    Refusal.REQUEST_TOO_SLOW: "408",
}


def refused(deny: Deny) -> bytes:
    """403, or what HTTP has for it; the reason is in the status line too, as that is what many clients show."""
    return _answer(_STATUS.get(deny.code, "403"), "sandbox_egress_denied", deny.code, deny.message, deny.hint)


def failed(code: Refusal, message: str) -> bytes:
    """502: it was allowed and could not be had."""
    hint = "the host was allowed; look at its name, its port and whether it is up"
    return _answer("502", "sandbox_egress_failed", code, message, hint)


def _answer(status: str, what: str, code: Refusal, message: str, hint: str) -> bytes:
    """RFC 9209 has the field Proxy-Status, for programs."""
    body = f"{what}: {message}\nreason: {code.value}\nhint: {hint}\n".encode()
    reason = "".join(character if " " <= character <= "~" else "?" for character in f"{what}: {message}")
    head = (
        f"HTTP/1.1 {status} {reason}\r\n"
        "content-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\n"
        f'proxy-status: arrowslit; error=http_request_denied; details="{code.value}"\r\n'
        "cache-control: no-store\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
