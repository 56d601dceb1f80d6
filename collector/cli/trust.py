"""`apidae enrollment` and `apidae certificates`: one-time tokens, revocation, rotation of the authority, and Secrets.

They work on the collector's state, with its settings and as its user, also while it runs: it looks every second.
Standard output is for programs: one line of text, or a JSON object a line.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collector.core.config import CollectorSettings, load_settings
from common.settings import ConfigError

if TYPE_CHECKING:  # The state takes half a second to load.
    from collector.storage.state.store import StateStore
    from collector.trust.secrets import StateKey

Config = Annotated[Path | None, typer.Option(help="TOML file of settings.")]
DataDirectory = Annotated[Path | None, typer.Option("--data-dir", help="Where the collector keeps everything.")]
Node = Annotated[str, typer.Option(help="Name of the node, as its sensor says it.")]
Cluster = Annotated[str, typer.Option(help="Name of the cluster the node is in; none for a plain host.")]
DEFAULT_TTL_SECONDS = 3_600
TTL_SECONDS_LIMIT = 30 * 86_400


def register_trust(app: typer.Typer) -> None:
    """Add both groups."""
    enrollment = typer.Typer(
        help="One-time tokens with which plain hosts get their certificates.", no_args_is_help=True
    )
    enrollment.command(name="create", help="Make a token; it is printed once and kept nowhere.")(create)
    enrollment.command(name="list", help="List the tokens with their state, as JSON lines.")(list_tokens)
    app.add_typer(enrollment, name="enrollment")
    certificates = typer.Typer(help="Certificates of sensors, and their authority.", no_args_is_help=True)
    certificates.command(name="list", help="List the valid certificates, as JSON lines.")(list_certificates)
    certificates.command(name="revoke", help="Revoke the certificates of a node, or one by its serial number.")(revoke)
    certificates.command(name="allow", help="Undo the revocation of a node.")(allow)
    certificates.command(name="rotate-authority", help="Make a new authority. The old one stays trusted for a while.")(
        rotate_authority
    )
    certificates.command(name="create-secrets", help="Make the Secrets of an installation in Kubernetes, once.")(
        create_kubernetes_secrets
    )
    app.add_typer(certificates, name="certificates")


def create(
    node: Annotated[str, typer.Option(help="Only this node may use it.")] = "",
    cluster: Annotated[str, typer.Option(help="Only a node of this cluster may use it.")] = "",
    ttl_seconds: Annotated[
        int,
        typer.Option("--ttl-seconds", "--ttl", min=1, max=TTL_SECONDS_LIMIT, help="How long it is valid, in seconds."),
    ] = DEFAULT_TTL_SECONDS,
    config: Config = None,
    data_dir: DataDirectory = None,
) -> None:
    """Print a token on standard output, and what to do with it on standard error."""
    from collector.core.keys import read_private
    from collector.trust.enrollment import EnrollmentTable
    from collector.trust.files import NO_PIN, PIN_FILE

    with open_state({"data_dir": data_dir}, config) as (settings, state):
        pin = (read_private(_find_directory(settings) / PIN_FILE) or NO_PIN.encode()).decode()
        enrollment, token = EnrollmentTable(state).make(
            now=time.time(),
            ttl_seconds=ttl_seconds,
            node=node,
            cluster=cluster,
            pin=pin,
        )
    print(token)
    until = datetime.fromtimestamp(enrollment.expires_at, UTC).isoformat(timespec="seconds")
    where = "apidae enroll --collector HOST:PORT" + (f" --node {node}" if node else "")
    where += f" --cluster {cluster}" if cluster else ""
    print(f"Good for one node until {until}. On it: {where} (it asks for the token).", file=sys.stderr)
    if pin == NO_PIN:
        print(
            "The collector's certificate is not of the authority of its sensors, so the node must know the "
            "certificate's own: --collector-ca-file, unless the system does.",
            file=sys.stderr,
        )


def list_tokens(config: Config = None, data_dir: DataDirectory = None) -> None:
    """One JSON object a token."""
    from collector.trust.enrollment import EnrollmentTable

    with open_state({"data_dir": data_dir}, config) as (_, state):
        found = EnrollmentTable(state).list_all()
    now = time.time()
    for enrollment in found:
        word = "used" if enrollment.used_at else "expired" if now >= enrollment.expires_at else "open"
        _print({"state": word, **asdict(enrollment)})


def list_certificates(config: Config = None, data_dir: DataDirectory = None) -> None:
    """One JSON object a certificate, with whether it is revoked."""
    from collector.trust.revocation import CertificateTable

    with open_state({"data_dir": data_dir}, config) as (_, state):
        table = CertificateTable(state)
        found, revocations = table.list_issued(), table.load_revocations()
    now = time.time()
    for certificate in found:
        if certificate.not_after > now:
            revoked_at = revocations.nodes.get((certificate.cluster, certificate.node), -1.0)
            is_revoked = certificate.serial in revocations.serials or certificate.issued_at <= revoked_at
            _print({**asdict(certificate), "is_revoked": is_revoked})


def revoke(
    node: Node = "",
    cluster: Cluster = "",
    serial: Annotated[str, typer.Option(help="Serial number of one certificate, hexadecimal.")] = "",
    config: Config = None,
    data_dir: DataDirectory = None,
) -> None:
    """By node or by serial number; streams that are open end within seconds."""
    from collector.trust.revocation import CertificateTable

    with _one_sentence():
        if bool(node) == bool(serial):
            raise ValueError("revoke takes --node or --serial, one of them")
    with open_state({"data_dir": data_dir}, config) as (_, state):
        table = CertificateTable(state)
        clusters = {one.cluster for one in table.list_issued(node=node)}
        if node and clusters and cluster not in clusters:
            known = ", ".join(sorted(name or "(none)" for name in clusters))
            raise ValueError(f"node {node} of cluster {cluster or '(none)'} has no certificate; it is of {known}")
        try:
            table.revoke(now=time.time(), node=(cluster, node) if node else None, serial=serial)
        except ValueError:
            raise ValueError(f"--serial is {serial!r}; give the hexadecimal digits of a serial number") from None
    if node and not clusters:
        print(f"No certificate of node {node} is known; the revocation is for one to come.", file=sys.stderr)
    what = f"Node {node}" if node else f"Certificate {serial}"
    print(f"{what} is revoked; a stream that is open ends within seconds.")


def allow(node: Node, cluster: Cluster = "", config: Config = None, data_dir: DataDirectory = None) -> None:
    """Its certificates work again, until they expire."""
    from collector.trust.revocation import CertificateTable

    with open_state({"data_dir": data_dir}, config) as (_, state):
        if not CertificateTable(state).allow(now=time.time(), node=(cluster, node)):
            raise ValueError(
                f"node {node} of cluster {cluster or '(none)'} is not revoked; correct --node or --cluster"
            )
    print(f"Node {node} is allowed again.")


def rotate_authority(config: Config = None, data_dir: DataDirectory = None) -> None:
    """Of the collector's own authority; one that was given by files is rotated where it was made."""
    from collector.trust.authority import SENSOR_CERTIFICATE_SECONDS, rotate_own_authority
    from collector.trust.secrets import SecretTable

    with open_secrets({"data_dir": data_dir}, config) as (settings, state, key):
        if settings.ca_cert_file is not None:
            raise ValueError(f"the authority is the one of ca_cert_file, {settings.ca_cert_file}; rotate it there")
        overlap = SENSOR_CERTIFICATE_SECONDS
        rotate_own_authority(SecretTable(state, key), now=time.time(), overlap_seconds=overlap)
    print(f"The authority is new; the one before is trusted for {overlap / 86_400:g} days more.")


def create_kubernetes_secrets(
    namespace: Annotated[str, typer.Option(help="Where they are.")],
    authority: Annotated[str, typer.Option(help="Name of the Secret with the authority: ca.crt and ca.key.")] = "",
    authority_config_map: Annotated[
        str, typer.Option("--authority-config-map", help="Name of a ConfigMap with its ca.crt.")
    ] = "",
    tokens: Annotated[str, typer.Option(help="Name of the Secret with api-token and sensor-token.")] = "",
    validity_days: Annotated[int, typer.Option("--validity-days", min=1, help="Of a new authority.")] = 3_650,
    kubeconfig: Annotated[Path | None, typer.Option(help="Default: this Pod's service account.")] = None,
) -> None:
    """What exists is kept; the chart runs this in a Job."""
    import asyncio
    from functools import partial

    from collector.trust.cluster_secrets import SecretNames, create_secrets
    from common.kubernetes.reflector import AccessError, ApiError, open_client

    names = SecretNames(
        namespace=namespace, authority=authority, authority_config_map=authority_config_map, tokens=tokens
    )
    with _one_sentence():
        try:
            made = asyncio.run(
                create_secrets(
                    partial(open_client, kubeconfig),
                    names,
                    now=time.time(),
                    validity_seconds=validity_days * 86_400,
                )
            )
        except (AccessError, ApiError) as error:
            raise ValueError(str(error)) from None
    print(f"Made: {', '.join(made)}." if made else "All exist.")


def _find_directory(settings: CollectorSettings) -> Path:
    from collector.trust.files import TRUST_DIRECTORY

    directory = settings.data_dir / TRUST_DIRECTORY
    if not directory.is_dir():
        raise ValueError(
            f"there is no authority in {directory}; start the collector once off loopback, or correct --data-dir"
        )
    return directory


@contextmanager
def open_state(flags: Mapping[str, Any], config: Path | None) -> "Iterator[tuple[CollectorSettings, StateStore]]":
    """The settings, and the state that they name. What goes wrong is one sentence."""
    from collector.storage.state.store import join_state

    with _one_sentence():
        settings = load_settings(flags, config_path=config)
        url = settings.state_url
        state = join_state(settings.data_dir, None if url is None else url.get_secret_value())
        with closing(state):
            yield settings, state


@contextmanager
def open_secrets(
    flags: Mapping[str, Any], config: Path | None
) -> "Iterator[tuple[CollectorSettings, StateStore, StateKey]]":
    """The same, and the key of its secrets."""
    from collector.trust.secrets import open_state_key

    with open_state(flags, config) as (settings, state):
        yield settings, state, open_state_key(settings, state)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """What went wrong on standard error, and exit code 1."""
    from collector.core.keys import KeyFileError
    from collector.storage.base import StoreError
    from collector.trust.files import TrustError

    try:
        yield
    except (ConfigError, KeyFileError, StoreError, TrustError, ValueError) as error:
        print(f"apidae: {str(error).rstrip('.')}.", file=sys.stderr)
        raise typer.Exit(1) from None


def _print(item: dict[str, Any]) -> None:
    print(json.dumps(item))
