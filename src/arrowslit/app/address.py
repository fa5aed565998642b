"""Under which address a relay can be reached: by commands on its own machine, and by connectors elsewhere."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from arrowslit.app.config import Listen, RelayAddress, RelayConfig
from arrowslit.errors import Error

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nobody is told to listen there, only to dial


def for_this_machine(config: RelayConfig, listen: Listen, fingerprint: str) -> RelayAddress:
    """What the other commands on this machine use. With TLS it is a name that the certificate is good for."""
    host = _EVERYWHERE.get(listen.host, listen.host)
    if config.tls_cert is None:
        return RelayAddress("http", host, listen.port, fingerprint)
    return RelayAddress("https", _name(config.tls_cert) or host, listen.port, fingerprint)


def for_connectors(config: RelayConfig, listen: Listen, fingerprint: str) -> RelayAddress | None:
    """What `ARROWSLIT_RELAY` is to be on another machine; None where only the proxy in front knows."""
    if config.public_cert is not None:
        name = _name(config.public_cert)
        return RelayAddress("https", name, 443, fingerprint) if name else None
    if config.proxies:
        return None
    return for_this_machine(config, listen, fingerprint)


def certificate(path: Path) -> x509.Certificate:
    """The first certificate in a PEM file. Raises Error `certificate_unusable`."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise Error(
            "certificate_unusable", f"{path} holds no certificate: {error}", hint="give a PEM file, the leaf first"
        ) from error


def _name(path: Path) -> str | None:
    """The first name in a certificate that can be dialled; None if there is none."""
    try:
        held = certificate(path).extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return None
    assert isinstance(held, x509.SubjectAlternativeName)
    names = [*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))]
    return next((name for name in names if not name.startswith("*")), None)
