"""The settings of the collector (common/settings.py): every one with its type, default, bounds and meaning.

Where alerts and blocks are sent is in collector/core/destinations.py.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from pydantic import Field, field_validator, model_validator

from collector.core.destinations import IntegrationList, NotifierList
from collector.core.feature import LEASED, Role
from collector.core.keys import SENSOR_TOKEN_FILE
from collector.core.kinds import Sensitivity
from collector.core.rates import UTC_NAME, LocalTime
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn
from common.networks import Networks
from common.settings import Group, KubernetesUse, LogLevel, ProgramSettings, Secret, load, read_removed, split_address

# Names of version 0.1, for the sentence to whoever still uses one (docs/reference/settings.md has the table).
REMOVED: Final = read_removed("""
    webhook_url: now an entry of notifiers with kind = "webhook"
    alertmanager_url: now an entry of notifiers with kind = "alertmanager"
    slack_url: now an entry of notifiers with kind = "slack"
    teams_url: now an entry of notifiers with kind = "teams"
    ocsf_url: now an entry of notifiers with kind = "ocsf"
    ocsf_file: now an entry of notifiers with kind = "ocsf_file"
    syslog_url, syslog_format: now an entry of notifiers with kind = "syslog"
    pagerduty_routing_key: now an entry of notifiers with kind = "pagerduty"
    pagerduty_url: now an entry of notifiers with kind = "pagerduty"; its region is "us" or "eu"
    smtp_url, email_from, email_to: now an entry of notifiers with kind = "mail"
    otlp_url, otlp_headers: now an entry of notifiers with kind = "otlp"
    template_url, template_file, template_content_type: now an entry of notifiers with kind = "template"
    block_webhook_url: now an entry of integrations with kind = "webhook"
    block_export_dir: now an entry of integrations with kind = "files"
    haproxy_socket, haproxy_acl: now an entry of integrations with kind = "haproxy"
    traefik_entry_points: now an entry of integrations with kind = "traefik"
    kubeconfig: now an entry of other_clusters, as CLUSTER=KUBECONFIG
    is_four_eyes: now require_second_approval
    store_cluster: now a database with the engine Replicated in store_url
    store_memory_bytes: the embedded tables use at most 1,500 MB; remove it, or use store_url
    wal_limit_bytes: the write-ahead log holds at most 2 GiB; remove it
    sensor_certificate_seconds: certificates of sensors are valid for 30 days; remove it
    kubernetes_enrollment_audience: the audience is apidae; remove it
    kubernetes_account_dir: Kubernetes mounts the account at one place; remove it
    risk_interval_seconds: the risk of endpoints is computed every minute; remove it
    trigger_distinct_objects_per_second, trigger_calls_per_second: the detectors are calibrated for one value; remove it
""")

_SERVER_NAME: Final = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z|[0-9a-fA-F:.]+\Z")
_ACCOUNT: Final = re.compile(r"[a-z0-9][a-z0-9.-]*/[a-z0-9][a-z0-9.-]*\Z")


class SensorAuth(StrEnum):
    """How a sensor shows who it is (docs/use/security.md)."""

    AUTO = "auto"  # By certificate off loopback, by token on it.
    CERTIFICATE = "certificate"
    TOKEN = "token"
    ANY = "any"  # Either one, while sensors move from tokens to certificates.


class BlockSettings(Group):
    """What may be blocked at all, by sensors and by proxies (docs/use/response.md)."""

    never_block_cidrs: Networks = ()
    """Networks that no block may name. Sensors have a list of their own."""
    min_ipv4_prefix_bits: int = Field(default=24, ge=8, le=32)
    """Shortest prefix of an IPv4 network that may be blocked."""
    min_ipv6_prefix_bits: int = Field(default=56, ge=16, le=128)
    """Shortest prefix of an IPv6 network that may be blocked."""


class OidcSettings(Group):
    """Login of people at an OpenID provider (docs/use/users.md). It needs `public_url`."""

    issuer: str = Field(default="", max_length=500)
    """Address of the provider, as it calls itself, as https://login.example/realms/staff. Empty: no login."""
    client_id: str = Field(default="", max_length=500)
    """Name under which the provider knows the collector."""
    client_secret_file: Path | None = None
    """File with the secret of the client. Without it the client is a public one."""
    user_claim: str = "email"
    """Claim of the ID token that names the user, as role bindings do."""
    groups_claim: str = "groups"
    """Claim of the ID token with the groups of the user."""
    scopes: tuple[str, ...] = ("profile", "email")
    """What the collector asks the provider for, beside openid."""

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise ValueError(f"is {value}; it must begin with https://, as in https://login.example")
        return value


class RetentionSettings(Group):
    """How long the collector keeps what it stores, and what that costs (docs/use/storage.md)."""

    minute_hours: int = Field(default=48, ge=48, le=336)
    """Hours for which rows by minute are kept."""
    hour_days: int = Field(default=90, ge=8, le=1_100)
    """Days for which rows by hour and day are kept."""
    alert_days: int = Field(default=400, ge=30, le=3_660)
    """Days for which alerts, incidents and their timelines are kept."""
    audit_days: int = Field(default=400, ge=30, le=3_660)
    """Days for which the audit log is kept; at most 500,000 entries of it."""


class CollectorSettings(ProgramSettings):
    """All of them. What only we can choose is a constant beside its use, for each setting costs its reader a line."""

    program = "collector"
    removed = REMOVED

    # Files.
    data_dir: Path = Path("/var/lib/apidae/collector")
    """Directory for everything that the collector keeps: log, embedded tables, tokens and keys."""

    # Listeners. Off loopback always by TLS.
    grpc_listen: str = "127.0.0.1:7443"
    """HOST:PORT for sensors. Port 0 takes a free one."""
    http_listen: str = "127.0.0.1:8080"
    """HOST:PORT for the API and the web page. Port 0 takes a free one."""
    tls_cert_file: Path | None = None
    """PEM certificate chain of both listeners. Without it the collector's authority issues one."""
    tls_key_file: Path | None = None
    """PEM key of `tls_cert_file`."""
    tls_server_names: tuple[str, ...] = ()
    """Further names and addresses for the certificate that the collector issues to itself."""
    ca_cert_file: Path | None = None
    """PEM authority that signs sensors' certificates, with further trusted ones behind it. Without it the first start
    makes one."""
    ca_key_file: Path | None = None
    """PEM key of the authority. Without it the collector checks certificates and issues none."""
    no_auth: bool = False
    """Ask for no tokens. It works on loopback only."""
    sensor_auth: SensorAuth = SensorAuth.AUTO
    """How sensors authenticate. `auto`: by certificate off loopback, by token on loopback. `any`: either one."""
    kubernetes_enrollment_accounts: tuple[str, ...] = ()
    """Service accounts whose Pods may enrol as sensors, as NAMESPACE/NAME."""
    sensor_token_file: Path | None = None
    """File with your own token for sensors. Without it the first start makes one in `data_dir`."""
    api_token_file: Path | None = None
    """File with your own API token. Without it the first start makes one in `data_dir`."""
    oidc: OidcSettings = OidcSettings()

    # Tables, log and state.
    roles: tuple[Role, ...] = tuple(Role)
    """What this process does of what several collectors share. `writer`, `detect` and `jobs` belong together, and one
    process at a time does them."""
    store_url: Secret | None = None
    """URL of a ClickHouse server to use instead of the embedded tables. A database with the engine Replicated gives
    each replica all rows."""
    state_url: Secret | None = None
    """URL of a PostgreSQL database for the state (alerts, silences, rules), as
    `postgresql://user:password@host:port/database`. Without it the state is the file `state.db` in `data_dir`."""
    state_key_file: Path | None = None
    """File with the key of the state's secrets: 64 hexadecimal digits, the same for all collectors of a state. Without
    it the first start makes `state.key` in `data_dir`."""
    log_url: Secret | None = None
    """URL of the log of batches for several collectors: a PostgreSQL database as in `state_url`, which may be the same,
    or `kafka://host:port/topic`. It needs `state_url`. Without it the log is files in `data_dir`."""
    disk_limit_bytes: int = Field(default=10_000_000_000, ge=200_000_000)
    """Size limit of the tables; past it the oldest rows are deleted."""
    disk_reserve_bytes: int | None = Field(default=None, ge=16_000_000)
    """Space on the volume of `data_dir` that stays free. Default: the larger of 1 GB and 1 % of the volume."""

    retention: RetentionSettings = RetentionSettings()

    # Kubernetes.
    kubernetes: KubernetesUse = KubernetesUse.AUTO
    """Whether the collector watches the Kubernetes API. `auto`: in a Pod."""
    cluster: str = Field(default="", max_length=253)
    """Name of the watched cluster, as its sensors give it."""
    other_clusters: tuple[str, ...] = ()
    """Clusters to watch beside the one that the collector runs in, as CLUSTER=KUBECONFIG."""

    # Blocks, risk, descriptions.
    require_second_approval: bool = False
    """Blocks begin only after a second approval, with the approval token."""
    blocks: BlockSettings = BlockSettings()
    spec_paths: tuple[Path, ...] = ()
    """API descriptions (OpenAPI) that are watched: files, and directories of .json, .yaml and .yml files."""
    partner_networks: tuple[str, ...] = ()
    """Networks (CIDR) of partners, for the exposure of endpoints."""

    # Consumers and detection.
    consumer_order: tuple[ConsumerColumn, ...] = CONSUMER_ORDER
    """What names the consumer of a call: the first of these that is known. The collector sends the order to its
    sensors."""
    sensitivity: Sensitivity = Sensitivity.NORMAL
    """Sensitivity of the detectors. A level that was chosen by the API holds until this setting changes."""
    time_zone: str = UTC_NAME
    """IANA time zone of the hours of day and weekends that detectors learn."""

    # Where alerts and blocks go.
    public_url: str = Field(default="", max_length=500, pattern=r"^(https?://[^/?#@\s]+(/[^?#\s]*)?)?$")
    """Address at which people reach this collector's pages, for links in messages, as https://apidae.example."""
    notifiers: NotifierList = ()
    """Receivers of alerts. Each is a table with its `kind`."""
    integrations: IntegrationList = ()
    """Receivers of blocks, and of metrics. Each is a table with its `kind`."""

    # Operation.
    log_level: LogLevel = LogLevel.INFO
    """Least severe messages that are logged."""

    @field_validator("partner_networks")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text!r} is no network ({error}); write it as 198.51.100.0/24") from None
        return value

    @field_validator("public_url")
    @classmethod
    def _strip_public_url(cls, value: str) -> str:
        return value.rstrip("/")  # Paths are put behind it.

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        return LocalTime(value).name

    @field_validator("consumer_order")
    @classmethod
    def _check_order(cls, value: tuple[ConsumerColumn, ...]) -> tuple[ConsumerColumn, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("must name at least one column and none twice")
        return value

    @field_validator("roles")
    @classmethod
    def _check_roles(cls, value: tuple[Role, ...]) -> tuple[Role, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("must name at least one role and none twice")
        missing = [role.value for role in (*LEASED, Role.API) if role not in value]
        if any(role in LEASED for role in value) and missing:
            raise ValueError(
                f"has no {missing[0]}: writer, detect and jobs are done by one process, and it needs api for what "
                "others pass on; name all four, or only ingest and api"
            )
        return value

    @field_validator("other_clusters")
    @classmethod
    def _check_clusters(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        named = [one.partition("=") for one in value]
        if not all(name and file for name, _, file in named) or len({name for name, _, _ in named}) != len(named):
            raise ValueError("must be CLUSTER=KUBECONFIG, as in west=/etc/apidae/west.yaml, and no cluster twice")
        return value

    @field_validator("tls_server_names")
    @classmethod
    def _check_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _SERVER_NAME.match(name):
                raise ValueError(f"has {name!r}, which is no host name or address; use ASCII, as in collector.example")
        return value

    @field_validator("kubernetes_enrollment_accounts")
    @classmethod
    def _check_accounts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for account in value:
            if not _ACCOUNT.match(account):
                raise ValueError(f"has {account!r}; each must be NAMESPACE/SERVICEACCOUNT, as in apidae/apidae-sensor")
        return value

    @field_validator("grpc_listen", "http_listen")
    @classmethod
    def _check_address(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> "CollectorSettings":
        if self.cluster in [one.partition("=")[0] for one in self.other_clusters]:
            raise ValueError(f"other_clusters names {self.cluster}, which is this cluster; give each its own name")
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together; set both or none")
        if self.ca_cert_file is None and self.ca_key_file is not None:
            raise ValueError("ca_key_file needs ca_cert_file; set both")
        if self.ca_cert_file is not None and self.ca_key_file is None and self.tls_cert_file is None:
            raise ValueError(
                "ca_cert_file alone makes no certificate; set ca_key_file, or tls_cert_file and tls_key_file"
            )
        if set(self.roles) != set(Role) and (missing := self.own_only):
            raise ValueError(f"roles are for several collectors, which share everything; set {missing[0]}, too")
        for name in ("grpc_listen", "http_listen") if self.no_auth else ():
            value = getattr(self, name)
            if not is_loopback(split_address(value)[0]):
                raise ValueError(
                    f"no_auth works on loopback only, but {name} is {value}; use 127.0.0.1 or drop --no-auth"
                )
        if self.oidc.issuer and not (self.oidc.client_id and self.public_url):
            lacking = "public_url" if self.oidc.client_id else "oidc.client_id"
            raise ValueError(f"oidc.issuer needs {lacking}; set it, or remove the issuer")
        if self.log_url is not None and self.state_url is None:
            raise ValueError("log_url needs state_url: collectors that share a log share their state; set both")
        if self.no_auth and self.sensor_auth is not SensorAuth.AUTO:
            raise ValueError(f"no_auth and sensor_auth {self.sensor_auth.value} contradict each other; keep one")
        return self

    @property
    def own_only(self) -> tuple[str, ...]:
        """Settings without which something is this process's own, so that no second one can share it."""
        return tuple(name for name in ("state_url", "log_url", "store_url") if getattr(self, name, None) is None)

    @property
    def is_grpc_secure(self) -> bool:
        """Whether sensors come in by TLS."""
        is_given = self.tls_cert_file is not None or self.ca_cert_file is not None
        return is_given or self.takes_certificates or not is_loopback(split_address(self.grpc_listen)[0])

    @property
    def is_http_secure(self) -> bool:
        """Whether people come in by TLS."""
        return self.tls_cert_file is not None or not is_loopback(split_address(self.http_listen)[0])

    @property
    def takes_certificates(self) -> bool:
        """Whether a certificate lets a sensor in."""
        if self.sensor_auth is SensorAuth.AUTO:
            return not is_loopback(split_address(self.grpc_listen)[0])
        return self.sensor_auth is not SensorAuth.TOKEN

    @property
    def takes_tokens(self) -> bool:
        """Whether the sensors' token lets a sensor in."""
        if self.no_auth:
            return False
        if self.sensor_auth is SensorAuth.AUTO:
            return not self.takes_certificates
        return self.sensor_auth is not SensorAuth.CERTIFICATE


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorSetup:
    """How the next sensor is started at this collector."""

    host: str  # Of the listener for sensors; empty: whatever this machine is called.
    port: int
    options: str  # For `apidae enrollment create`.
    token_file: str  # Empty where sensors come without a token.
    is_enrolled: bool  # By a certificate of its own.

    def list_commands(self, seen_host: str, node: str = "NODE") -> tuple[tuple[str, str], ...]:
        """Where, and which command; in this order. `seen_host`: what whoever asks calls this machine."""
        address = join_address(self.host or seen_host, self.port)
        if not self.is_enrolled:
            token = f" --token-file {self.token_file}" if self.token_file else ""
            return (("on this host", f"sudo apidae sensor --collector {address}{token}"),)
        named = f" --collector {address} --node {node}"
        return (
            ("on the collector", f"sudo -u apidae apidae enrollment create --node {node}{self.options}"),
            ("on the host", f"sudo apidae enroll{named}"),
            ("on the host", f"sudo apidae sensor{named}"),
        )


def find_setup(settings: CollectorSettings, port: int | None = None) -> SensorSetup:
    """Of a collector with these settings; `port`: of its listener, where that was not chosen by the settings."""
    host, configured = split_address(settings.grpc_listen)
    is_default = settings.data_dir == CollectorSettings.model_fields["data_dir"].default
    return SensorSetup(
        host="" if host in ("0.0.0.0", "::") else host,
        port=port or configured,
        options="" if is_default else f" --data-dir {settings.data_dir}",
        token_file=str(settings.sensor_token_file or settings.data_dir / SENSOR_TOKEN_FILE)
        if settings.takes_tokens
        else "",
        is_enrolled=settings.takes_certificates,
    )


def join_address(host: str, port: int) -> str:
    """The inverse of split_address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a listener on this host is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(
    flags: Mapping[str, Any], *, config_path: Path | None = None, environment: Mapping[str, str] = os.environ
) -> CollectorSettings:
    """As `load`. Raises ConfigError."""
    return load(CollectorSettings, flags, config_path=config_path, environment=environment)
