"""The authority: what it signs, what it refuses, and that a rotation leaves nobody behind."""

import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from collector.core.keys import KeyFileError
from collector.trust.authority import (
    AUTHORITY,
    Authority,
    AuthorityError,
    KeyPair,
    fingerprint,
    issue_sensor_certificate,
    issue_server_certificate,
    load_own_authority,
    make_authority,
    read_authority,
    rotate_authority,
    rotate_own_authority,
    write_certificates,
    write_key,
)
from collector.trust.identity import read_certificate
from collector.trust.secrets import SecretTable
from sensor.export.certificates import make_key_request

DAY = 86_400.0
NOW = time.time()
NAMES = ("collector.test", "127.0.0.1", "::1")


def issue(authority: Authority, *, cluster: str = "c", node: str = "n", now: float = NOW) -> KeyPair:
    fresh = make_key_request()
    chain = issue_sensor_certificate(authority, fresh.request, cluster=cluster, node=node, now=now, seconds=DAY)
    return KeyPair(chain=chain, key=fresh.key)


def shake(directory: Path, server: KeyPair, *, trusts: bytes, client: KeyPair | None = None, knows: bytes = b"") -> str:
    """A TLS handshake in memory: "" or what was said of it. The server trusts `knows`, the client `trusts`."""
    ends: list[tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]] = []
    for is_server, pair in ((True, server), (False, client)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if pair is not None:
            file = directory / "pair.pem"
            file.write_bytes(pair.key + pair.chain)
            context.load_cert_chain(file)
        if trusted := knows if is_server else trusts:
            context.load_verify_locations(cadata=trusted.decode())
            context.verify_mode = ssl.CERT_REQUIRED
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if is_server else "collector.test"
        ends.append((context.wrap_bio(incoming, outgoing, is_server, name), incoming, outgoing))
    for _ in range(4):
        for here, there in ((1, 0), (0, 1)):
            try:
                ends[here][0].do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            ends[there][1].write(ends[here][2].read())
    return ""


def test_both_ends_know_each_other_by_one_authority(tmp_path: Path) -> None:
    authority = make_authority(NOW)
    server = issue_server_certificate(authority, NAMES, now=NOW, seconds=DAY)
    client = issue(authority)
    trusted = authority.bundle
    assert shake(tmp_path, server, trusts=trusted, client=client, knows=trusted) == ""
    other = make_authority(NOW).bundle
    assert "self-signed" in shake(tmp_path, server, trusts=other, client=client, knows=trusted)
    assert "self-signed" in shake(tmp_path, server, trusts=trusted, client=client, knows=other)


def test_neither_plays_the_other(tmp_path: Path) -> None:
    authority = make_authority(NOW)
    server = issue_server_certificate(authority, NAMES, now=NOW, seconds=DAY)
    trusted = authority.bundle
    said = shake(tmp_path, server, trusts=trusted, client=server, knows=trusted)
    assert "purpose" in said or "unsuitable" in said
    said = shake(tmp_path, issue(authority), trusts=trusted, client=issue(authority), knows=trusted)
    assert "purpose" in said or "unsuitable" in said


@pytest.mark.parametrize(("cluster", "node"), [("", "n-1"), ("prod/eu", "a b%/ü"), ("c", "x" * 253)])
def test_a_certificate_names_cluster_and_node(cluster: str, node: str) -> None:
    leaf = x509.load_pem_x509_certificate(issue(make_authority(NOW), cluster=cluster, node=node).chain)
    read = read_certificate(leaf.public_bytes(Encoding.DER))
    assert (read.cluster, read.nodes, read.serial) == (cluster, {node}, leaf.serial_number)
    assert read.covers(cluster=cluster, node=node)
    assert not read.covers(cluster=cluster, node=node + "x") and not read.covers(cluster=cluster + "x", node=node)
    assert abs(read.issued_at - NOW) < 1 and abs(read.not_after - NOW - DAY) < 1


def test_a_rotation_leaves_nobody_behind(tmp_path: Path) -> None:
    old = make_authority(NOW)
    new = rotate_authority(old, NOW)
    server = issue_server_certificate(new, NAMES, now=NOW, seconds=DAY)
    for client in (issue(old), issue(new)):
        for trusts in (old.bundle, new.bundle, write_certificates((new.certificate,))):
            assert shake(tmp_path, server, trusts=trusts, client=client, knows=new.bundle) == ""
    # What a token pins is shown, before the rotation and while it lasts.
    assert fingerprint(new.anchor) == fingerprint(old.certificate) == fingerprint(old.anchor)
    assert new.anchor in x509.load_pem_x509_certificates(server.chain)


def test_nothing_outlives_its_authority() -> None:
    authority = make_authority(NOW)
    fresh = make_key_request()
    late = authority.certificate.not_valid_after_utc.timestamp() - 60
    chain = issue_sensor_certificate(authority, fresh.request, cluster="", node="n", now=late, seconds=DAY)
    leaf = x509.load_pem_x509_certificate(chain)
    assert leaf.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_requests_that_are_refused() -> None:
    authority = make_authority(NOW)

    def ask(request: bytes) -> None:
        issue_sensor_certificate(authority, request, cluster="", node="n", now=NOW, seconds=DAY)

    with pytest.raises(AuthorityError, match="cannot be read"):
        ask(b"nonsense")
    damaged = bytearray(make_key_request().request)
    damaged[-1] ^= 1
    with pytest.raises(AuthorityError, match=r"not signed by its own key|cannot be read"):
        ask(bytes(damaged))
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(weak, SHA256())
    with pytest.raises(AuthorityError, match="1024 bits; use at least 2048"):
        ask(request.public_bytes(Encoding.DER))
    with pytest.raises(AuthorityError, match="no key here"):
        issue(Authority(certificate=authority.certificate, key=None))


def test_a_given_authority_is_read_with_those_beside_it() -> None:
    signing, beside = make_authority(NOW), make_authority(NOW)
    assert signing.key is not None
    content = write_certificates((beside.certificate, signing.certificate))
    read = read_authority(content, write_key(signing.key))
    assert read.certificate == signing.certificate and read.others == (beside.certificate,)
    assert read_authority(content, None).certificate == beside.certificate
    with pytest.raises(AuthorityError, match="no certificates in PEM"):
        read_authority(b"", None)
    with pytest.raises(AuthorityError, match="no certificate of the key"):
        read_authority(write_certificates((beside.certificate,)), write_key(signing.key))
    with pytest.raises(AuthorityError, match="no unencrypted key in PEM"):
        read_authority(content, b"no key")


def test_the_state_keeps_and_rotates_it(secrets: SecretTable) -> None:
    def load(now: float) -> Authority:
        return load_own_authority(secrets, now=now, overlap_seconds=DAY)

    with pytest.raises(KeyFileError, match=r"no authority in .*start the collector once"):
        rotate_own_authority(secrets, now=NOW, overlap_seconds=DAY)
    first = load(NOW)
    assert load(NOW).certificate == first.certificate
    second = rotate_own_authority(secrets, now=NOW, overlap_seconds=DAY)
    during = load(NOW + DAY - 2)
    assert during.certificate == second.certificate and during.others == (first.certificate,)
    assert during.cross is not None and during.cross == second.cross
    with pytest.raises(KeyFileError, match=r"lasts for 1\.0 days more"):
        rotate_own_authority(secrets, now=NOW, overlap_seconds=DAY)
    after = load(NOW + DAY + 2)
    assert after.certificate == second.certificate and not after.others and after.cross is None
    third = rotate_own_authority(secrets, now=NOW + DAY + 2, overlap_seconds=DAY)
    assert third.others == (second.certificate,)
    secrets.change(AUTHORITY, lambda _: b"nonsense", NOW)
    with pytest.raises(KeyFileError, match="is damaged"):
        load(NOW)
