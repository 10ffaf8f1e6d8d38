"""Certificates: what an authority's says, whether it signed a device's, and whether a device holds the key to its own.

Pure. An authority vouches for what it signed itself; whoever issues through an intermediate authority names that one.
"""

import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from kernel.errors import Invalid

FRESH: Final = timedelta(minutes=5)
"""How far the time in a signed request may be from ours."""


@dataclass(frozen=True, slots=True)
class Authority:
    """What is kept of an authority."""

    name: str
    fingerprint: str
    pem: str
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Leaf:
    """A device's certificate that is valid now."""

    common_name: str
    certificate: x509.Certificate = field(repr=False)


def authority(pem: str, now: datetime) -> Authority:
    """Return what is to be kept of an authority's certificate.

    Raises:
        Invalid: it is none, is not an authority's, or has run out.
    """
    try:
        found = x509.load_pem_x509_certificate(pem.strip().encode())
        is_authority = found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm) as error:
        raise Invalid("This is no certificate of an authority in PEM.", field="certificate") from error
    if not is_authority or not _is_valid(found, now):
        raise Invalid("This certificate is no authority's, or has run out.", field="certificate")
    return Authority(
        name=_common_name(found) or found.subject.rfc4514_string()[:200],
        fingerprint=found.fingerprint(hashes.SHA256()).hex(),
        pem=found.public_bytes(serialization.Encoding.PEM).decode(),
        ends_at=found.not_valid_after_utc,
    )


def leaf(der: bytes, now: datetime) -> Leaf | None:
    """Return a device's certificate, or None where it is none, names nobody or several, or is not valid now."""
    try:
        found = x509.load_der_x509_certificate(der)
        name = _common_name(found)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return Leaf(name, found) if name and _is_valid(found, now) else None


def der_of(pem: str) -> bytes:
    """Return a certificate as it stands on the wire.

    Raises:
        Invalid: it is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem.strip().encode()).public_bytes(serialization.Encoding.DER)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid("This is no certificate in PEM.", field="certificate") from error


def is_signed(leaf: Leaf, pem: str) -> bool:
    """Return whether an authority signed a device's certificate itself."""
    try:
        leaf.certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(pem.encode()))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def signed_text(common_name: str, time: str) -> bytes:
    """Return what a device signs with its private key to show that it holds it."""
    return f"fixwright-provision {common_name} {time}".encode()


def holds_key(leaf: Leaf, time: str, signature: str, now: datetime) -> bool:
    """Return whether ``signature`` (base64, over SHA-256) was just made with the private key of a certificate.

    ``time`` is the signer's, in ISO 8601 with an offset. RSA (PKCS #1 v1.5), ECDSA and Ed25519.
    """
    try:
        moment = datetime.fromisoformat(time)
        if moment.tzinfo is None or abs(now - moment) > FRESH:
            return False
        _verify(leaf.certificate.public_key(), base64.b64decode(signature), signed_text(leaf.common_name, time))
    except (ValueError, OverflowError, binascii.Error, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _verify(key: object, signature: bytes, text: bytes) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, text)
    else:
        raise InvalidSignature


def _common_name(certificate: x509.Certificate) -> str | None:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else None


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
