"""/v1/tunnels/{id}/certificates: official shapes. They are kept; `enforced` says that nothing is checked by them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agents.api.pages import ArchivableQuery, Position, page
from arrowslit.agents.api.reading import read_body, read_query
from arrowslit.agents.api.resource import Doorkeeper, Method
from arrowslit.agents.api.schema import CertificateBody, Nothing
from arrowslit.clock import rfc3339
from arrowslit.errors import Error
from arrowslit.tunnel import Certificate, Certificates

MAX_PEM = 8192  # characters, as officially
_ONE_CERTIFICATE = re.compile(r"\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*")


@dataclass(frozen=True, slots=True)
class CertificatesApi:
    """The handlers."""

    certificates: Certificates

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource."""
        every = "/v1/tunnels/{tunnel_id}/certificates"
        absent = ("tunnel_not_found", "certificate_not_found")
        return [
            keeper.resource(
                every,
                get=Method(self.list, query=ArchivableQuery, answer="CertificatePage", errors=("tunnel_not_found",)),
                post=Method(self.create, body=CertificateBody, answer="Certificate", errors=("tunnel_not_found",)),
            ),
            keeper.resource(
                f"{every}/{{certificate_id}}", get=Method(self.retrieve, answer="Certificate", errors=absent)
            ),
            keeper.resource(
                f"{every}/{{certificate_id}}/archive",
                post=Method(self.archive, body=Nothing, answer="Certificate", errors=absent),
            ),
        ]

    async def create(self, request: Request) -> object:
        """Keep a certificate."""
        pem = (await read_body(request, CertificateBody)).ca_certificate_pem
        certificate = _read(pem)
        tunnel_id, expires_at = request.path_params["tunnel_id"], certificate.not_valid_after_utc.timestamp()
        kept = await self.certificates.create(tunnel_id, pem, certificate.fingerprint(SHA256()).hex(), expires_at)
        return show_certificate(kept)

    async def retrieve(self, request: Request) -> object:
        """The certificate."""
        return show_certificate(await self.certificates.read(*_ids(request)))

    async def list(self, request: Request) -> object:
        """A page of a tunnel's certificates."""
        query = read_query(request, ArchivableQuery)
        found = await self.certificates.of(request.path_params["tunnel_id"])
        shown = [each for each in found if query.include_archived or each.archived_at is None]
        return page(request, query, shown, _position, show_certificate)

    async def archive(self, request: Request) -> object:
        """Give a certificate up."""
        await read_body(request, Nothing)
        return show_certificate(await self.certificates.archive(*_ids(request)))


def show_certificate(certificate: Certificate) -> Mapping[str, object]:
    """The official object. Ours are `enforced`, which is always false, and `ca`, whether it may sign others."""
    return {
        "id": certificate.id,
        "type": "tunnel_certificate",
        "tunnel_id": certificate.tunnel_id,
        "fingerprint": certificate.fingerprint,
        "created_at": rfc3339(certificate.created_at),
        "expires_at": None if certificate.expires_at is None else rfc3339(certificate.expires_at),
        "archived_at": None if certificate.archived_at is None else rfc3339(certificate.archived_at),
        "enforced": False,
        "ca": _signs_others(_read(certificate.pem)),
    }


def _read(pem: str) -> x509.Certificate:
    """The one certificate in a PEM text. Raises Error `validation_error`."""
    if "PRIVATE KEY" in pem:
        raise Error(
            "validation_error",
            "there is a private key in ca_certificate_pem; it was not kept",
            hint="send the certificate alone, and replace the key if this connection was not yours alone",
        )
    if len(pem) > MAX_PEM or not _ONE_CERTIFICATE.fullmatch(pem):
        raise _no_certificate()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about it is its owner's concern
            certificate = x509.load_pem_x509_certificate(pem.encode())
            _signs_others(certificate)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise _no_certificate() from error
    return certificate


def _signs_others(certificate: x509.Certificate) -> bool:
    """Whether its basic constraints say CA:TRUE (RFC 5280, 4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _no_certificate() -> Error:
    return Error(
        "validation_error",
        f"ca_certificate_pem is not one certificate in PEM of at most {MAX_PEM} characters",
        hint="send what stands from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, of one certificate",
    )


def _ids(request: Request) -> tuple[str, str]:
    return request.path_params["tunnel_id"], request.path_params["certificate_id"]


def _position(certificate: Certificate) -> Position:
    return certificate.created_at, certificate.id
