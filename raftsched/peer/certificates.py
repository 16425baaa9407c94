"""A cluster's own authority, and the certificates of its peers.

Rules
1. A certificate says who its peer is by one URI, ``raftsched://CLUSTER/PEER`` (`raft.tls`).
2. The authority's common name is the cluster's id.  Its key makes peers: whoever has it is one.
"""

from __future__ import annotations

import datetime
import ipaddress
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from raftsched.raft.files import Identity
from raftsched.raft.tls import identity_of, identity_uri

#: What the organization of every authority of ours is called; the common name is the cluster.
AUTHORITY = "raftsched cluster authority"
PEER = "raftsched peer"
AUTHORITY_DAYS = 3_650
PEER_DAYS = 365
#: A certificate is valid from so long ago: clocks differ.
BACKDATED = datetime.timedelta(hours=1)


class CertificateError(Exception):
    """Bytes are not the certificate or key that is needed; the text says what they are."""


class Pair(NamedTuple):
    """A certificate and its private key, PEM."""

    cert: bytes
    key: bytes


class About(NamedTuple):
    """What a certificate says."""

    subject: str
    issuer: str
    #: Empty when it is not one of ours.
    cluster_id: str
    #: Empty for an authority.
    peer_id: str
    is_authority: bool
    hosts: tuple[str, ...]
    valid_from: datetime.datetime
    valid_until: datetime.datetime
    #: SHA-256 of the certificate, in hexadecimal digits with colons.
    fingerprint: str


def make_authority(cluster_id: str, now: datetime.datetime, days: int = AUTHORITY_DAYS) -> Pair:
    """A new authority for one cluster."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(AUTHORITY, cluster_id)
    builder = _builder(name, name, key.public_key(), now, now + datetime.timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
    builder = builder.add_extension(_usage(is_authority=True), critical=True)
    return _signed(builder, key, key)


def make_peer(
    authority: Pair,
    peer_id: str,
    now: datetime.datetime,
    *,
    hosts: tuple[str, ...] = (),
    days: int = PEER_DAYS,
) -> Pair:
    """A peer's certificate, which ends no later than the authority's.  Raises CertificateError."""
    ca, ca_key = _authority(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    cluster_id = _common_name(ca.subject)
    until = min(now + datetime.timedelta(days=days), ca.not_valid_after_utc)
    builder = _builder(_name(PEER, peer_id), ca.subject, key.public_key(), now, until)
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(identity_uri(Identity(cluster_id, peer_id)))
    ]
    names += [_host(host) for host in hosts]
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    for extension, critical in (
        (x509.SubjectAlternativeName(names), False),
        (x509.BasicConstraints(False, None), True),
        (_usage(is_authority=False), True),
        (
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            False,
        ),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return _signed(builder, key, ca_key)


def describe(pem: bytes) -> About:
    """What the first certificate of a file says.  Raises CertificateError."""
    certificate = _certificate(pem)
    uris, hosts = _names(certificate)
    identity = identity_of(uris) or Identity("", "")
    is_authority = _is_authority(certificate)
    cluster_id = identity.cluster_id
    if is_authority and _organization(certificate.subject) == AUTHORITY:
        cluster_id = _common_name(certificate.subject)
    return About(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        cluster_id=cluster_id,
        peer_id=identity.peer_id,
        is_authority=is_authority,
        hosts=hosts,
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateError(f"not a certificate in PEM form: {error}") from None


def _authority(authority: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _certificate(authority.cert)
    try:
        key = serialization.load_pem_private_key(authority.key, None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"the authority's key cannot be used: {error}") from None
    if not _is_authority(certificate) or _organization(certificate.subject) != AUTHORITY:
        raise CertificateError("the certificate is not that of an authority made here")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the authority's key is not one made here")
    if key.public_key() != certificate.public_key():
        raise CertificateError("the key is not that of the authority's certificate")
    return certificate, key


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return found.value.ca


def _names(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """URIs, and host names and addresses."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return (), ()
    hosts = [*found.get_values_for_type(x509.DNSName)]
    hosts += [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return tuple(found.get_values_for_type(x509.UniformResourceIdentifier)), tuple(hosts)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise CertificateError(f"{host!r} is no host name") from None


def _name(organization: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _common_name(name: x509.Name) -> str:
    return "".join(str(a.value) for a in name.get_attributes_for_oid(NameOID.COMMON_NAME))


def _organization(name: x509.Name) -> str:
    return "".join(str(a.value) for a in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, until) - BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
) -> Pair:
    certificate = builder.sign(signer, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), secret)
