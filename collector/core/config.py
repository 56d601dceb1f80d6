"""The collector's settings, validated once at the start into a frozen object.

A setting comes from the first of these sources that has it:

- a flag (`--data-dir`)
- the environment (`APIDAE_COLLECTOR_DATA_DIR`)
- the TOML file: `data_dir = ...` in `--config`, else /etc/apidae/collector.toml where it exists
- the default in this module

An unknown key is an error that names it. `NotifierSettings` say where alerts are sent (docs/use/notifiers.md), and
`ResponseSettings` which other systems receive blocks (docs/use/response.md#elsewhere).
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from collector.core.kinds import Sensitivity
from collector.core.rates import UTC_NAME, LocalTime
from collector.core.rows import CONSUMER_ORDER, ConsumerColumn

PAGERDUTY_URL: Final = "https://events.pagerduty.com/v2/enqueue"
# What a receiver's address needs besides.
_NEEDED: Final = {"smtp_url": ("email_from", "email_to"), "template_url": ("template_file",)}


class SyslogFormat(StrEnum):
    """What a syslog message about an alert holds."""

    RFC5424 = "rfc5424"  # Structured data and a sentence.
    CEF = "cef"  # A record of the Common Event Format.


class NotifierSettings(BaseSettings):
    """All of them; addresses that hold a credential are secret."""

    webhook_url: SecretStr | None = Field(
        default=None,
        description="URL that receives each change of an alert as signed JSON; https, or http on loopback.",
    )
    syslog_url: str | None = Field(default=None, description="Syslog server: udp://, tcp:// or tls://HOST:PORT.")
    syslog_format: SyslogFormat = Field(
        default=SyslogFormat.RFC5424, description="Format of syslog messages: structured data of RFC 5424, or CEF."
    )
    alertmanager_url: str | None = Field(default=None, description="URL of a Prometheus Alertmanager.")
    slack_url: SecretStr | None = Field(default=None, description="Incoming webhook of Slack.")
    teams_url: SecretStr | None = Field(default=None, description="Webhook of a Microsoft Teams workflow.")
    pagerduty_routing_key: SecretStr | None = Field(
        default=None, description="Routing key of a PagerDuty service with the Events API v2."
    )
    pagerduty_url: str = Field(
        default=PAGERDUTY_URL,
        description="URL of the Events API. In Europe https://events.eu.pagerduty.com/v2/enqueue.",
    )
    smtp_url: SecretStr | None = Field(
        default=None, description="Mail server: smtp://USER:PASSWORD@HOST:587 (STARTTLS) or smtps://HOST:465."
    )
    email_from: str = Field(default="", max_length=320, description="Sender address of alert mails.")
    email_to: tuple[str, ...] = Field(default=(), max_length=50, description="Recipients of alert mails.")
    otlp_url: str | None = Field(
        default=None, description="OTLP/HTTP endpoint for alerts as log records; `/v1/logs` is added."
    )
    otlp_headers: SecretStr | None = Field(
        default=None, description="Headers for `otlp_url`, as NAME=VALUE with commas, percent-encoded."
    )
    ocsf_url: SecretStr | None = Field(default=None, description="URL that receives alerts as OCSF Detection Findings.")
    ocsf_file: Path | None = Field(
        default=None, description="File to which alerts are appended as OCSF Detection Findings, one JSON line each."
    )
    template_url: SecretStr | None = Field(
        default=None, description="URL that receives what your template makes of an alert."
    )
    template_file: Path | None = Field(default=None, description="Jinja template of the body for `template_url`.")
    template_content_type: str = Field(
        default="application/json",
        pattern=r"^[a-z]+/[a-z0-9.+-]+(; ?charset=utf-8)?$",
        description="Media type of the body that the template makes.",
    )

    @field_validator("email_to", mode="before")
    @classmethod
    def _split_addresses(cls, value: object) -> object:
        """The environment gives a list as text with commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check_belonging(self) -> "NotifierSettings":
        for name, needed in _NEEDED.items():
            missing = [other for other in needed if not getattr(self, other)]
            if getattr(self, name) is not None and missing:
                raise ValueError(f"{name} needs {' and '.join(missing)}; set all of them")
        return self


class ResponseSettings(BaseSettings):
    """All of them; nobody is told by default."""

    block_webhook_url: SecretStr | None = Field(
        default=None,
        description="URL that receives every decision on blocks as signed JSON; https, or http on loopback.",
    )
    block_export_dir: Path | None = Field(
        default=None, description="Directory in which the deny lists for proxies are kept up to date."
    )
    haproxy_socket: str | None = Field(
        default=None,
        max_length=512,
        pattern=r"^(/\S+|\S+:[0-9]{1,5})$",
        description="HAProxy's runtime API, as the path of a socket or HOST:PORT.",
    )
    haproxy_acl: str = Field(
        default="",
        max_length=512,
        pattern=r"^[!-:<-~]*$",
        description="Name of HAProxy's list, as in `acl .. src -f NAME`. All its entries are replaced.",
    )
    traefik_entry_points: tuple[str, ...] = Field(
        default=("web", "websecure"),
        description="Entry points of Traefik to which its deny list applies. Empty: all that are default in Traefik.",
    )

    @field_validator("traefik_entry_points", mode="before")
    @classmethod
    def _split_entry_points(cls, value: object) -> object:
        """The environment gives a list as text with commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check_list(self) -> "ResponseSettings":
        if self.haproxy_socket is not None and not self.haproxy_acl:
            raise ValueError("haproxy_socket needs haproxy_acl, the list's name as in `acl .. src -f NAME`; set both")
        return self


ENVIRONMENT_PREFIX: Final = "APIDAE_COLLECTOR_"
CONFIG_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"  # Names the file, so it cannot be in it.
DEFAULT_CONFIG_PATH: Final = Path("/etc/apidae/collector.toml")
_SERVER_NAME: Final = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z|[0-9a-fA-F:.]+\Z")
_ACCOUNT: Final = re.compile(r"[a-z0-9][a-z0-9.-]*/[a-z0-9][a-z0-9.-]*\Z")


class ConfigError(Exception):
    """A setting is wrong; one sentence that names it, its value, where it came from, and what is allowed."""


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class KubernetesUse(StrEnum):
    """Whether the API server of Kubernetes is asked what leads to services and who holds which address
    (docs/use/kubernetes.md)."""

    AUTO = "auto"  # In a Pod yes, elsewhere where a kubeconfig is given.
    ON = "on"
    OFF = "off"


class SensorAuth(StrEnum):
    """How a sensor shows who it is (docs/use/security.md)."""

    AUTO = "auto"  # By certificate off loopback, by token on it.
    CERTIFICATE = "certificate"
    TOKEN = "token"
    ANY = "any"  # Either one, while sensors move from tokens to certificates.


class CollectorSettings(NotifierSettings, ResponseSettings):
    """All of them; where alerts go besides the API is in NotifierSettings."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid")

    # Files.
    data_dir: Path = Field(
        default=Path("/var/lib/apidae/collector"),
        description="Directory for everything that the collector keeps: log, embedded tables, tokens and keys.",
    )

    # Listeners. Off loopback always by TLS.
    grpc_listen: str = Field(default="127.0.0.1:7443", description="HOST:PORT for sensors. Port 0 takes a free one.")
    http_listen: str = Field(
        default="127.0.0.1:8080", description="HOST:PORT for the API and the web page. Port 0 takes a free one."
    )
    tls_cert_file: Path | None = Field(
        default=None,
        description="PEM certificate chain of both listeners. Without it the collector's authority issues one.",
    )
    tls_key_file: Path | None = Field(default=None, description="PEM key of `tls_cert_file`.")
    tls_server_names: tuple[str, ...] = Field(
        default=(), description="Further names and addresses for the certificate that the collector issues to itself."
    )
    ca_cert_file: Path | None = Field(
        default=None,
        description=(
            "PEM authority that signs sensors' certificates, with further trusted ones behind it. Without it the "
            "first start makes one."
        ),
    )
    ca_key_file: Path | None = Field(
        default=None,
        description="PEM key of the authority. Without it the collector checks certificates and issues none.",
    )
    no_auth: bool = Field(default=False, description="Ask for no tokens. It works on loopback only.")
    sensor_auth: SensorAuth = Field(
        default=SensorAuth.AUTO,
        description=(
            "How sensors authenticate. `auto`: by certificate off loopback, by token on loopback. `any`: either one."
        ),
    )
    sensor_certificate_seconds: int = Field(
        default=30 * 86_400,
        ge=60,
        le=366 * 86_400,
        description="Lifetime of the certificates that the collector issues to sensors.",
    )
    kubernetes_enrollment_accounts: tuple[str, ...] = Field(
        default=(), description="Service accounts whose Pods may enrol as sensors, as NAMESPACE/NAME."
    )
    kubernetes_enrollment_audience: str = Field(
        default="apidae", min_length=1, description="Audience that the service account tokens of sensors must have."
    )
    kubernetes_account_dir: Path = Field(
        default=Path("/var/run/secrets/kubernetes.io/serviceaccount"),
        description="Directory with the collector's own service account token.",
    )
    sensor_token_file: Path | None = Field(
        default=None,
        description="File with your own token for sensors. Without it the first start makes one in `data_dir`.",
    )
    api_token_file: Path | None = Field(
        default=None, description="File with your own API token. Without it the first start makes one in `data_dir`."
    )

    # Tables and log.
    store_url: SecretStr | None = Field(
        default=None, description="URL of a ClickHouse server to use instead of the embedded tables."
    )
    store_cluster: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.-]*$",
        description="Name of the ClickHouse cluster on which tables are made; empty for one server.",
    )
    store_memory_bytes: int = Field(
        default=1_500_000_000, ge=400_000_000, description="Memory limit of the embedded tables."
    )
    disk_limit_bytes: int = Field(
        default=10_000_000_000,
        ge=200_000_000,
        description="Size limit of the tables; past it the oldest rows are deleted.",
    )
    wal_limit_bytes: int = Field(
        default=2 * 1024**3,
        ge=64 * 1024**2,
        description="Size limit of the write-ahead log; past it sensors must send batches again.",
    )
    disk_reserve_bytes: int | None = Field(
        default=None,
        ge=16_000_000,
        description=(
            "Space on the volume of `data_dir` that stays free. Default: the larger of 1 GB and 1 % of the volume."
        ),
    )

    # When a sensor sends a row before its window ends.
    trigger_distinct_objects_per_second: int = Field(
        default=10, ge=1, le=1_000_000, description="A row with this many distinct objects in a second is sent at once."
    )
    trigger_calls_per_second: int = Field(
        default=20, ge=1, le=1_000_000, description="A row with this many calls in a second is sent at once."
    )
    consumer_order: tuple[ConsumerColumn, ...] = Field(
        default=CONSUMER_ORDER,
        description="What names the consumer of a call: the first of these that is known. Use the sensors' order.",
    )

    # Kubernetes.
    kubernetes: KubernetesUse = Field(
        default=KubernetesUse.AUTO,
        description="Whether the collector watches the Kubernetes API. `auto`: in a Pod, or if a kubeconfig is set.",
    )
    cluster: str = Field(default="", max_length=253, description="Name of the watched cluster, as its sensors give it.")
    kubeconfig: Path | None = Field(
        default=None, description="Kubeconfig file, for a collector that runs outside a Pod."
    )
    other_clusters: tuple[str, ...] = Field(default=(), description="Further clusters to watch, as CLUSTER=KUBECONFIG.")

    # Blocks, risk, descriptions.
    is_four_eyes: bool = Field(
        default=False, description="Blocks begin only after a second approval, with the approval token."
    )
    spec_paths: tuple[Path, ...] = Field(
        default=(),
        description=(
            "API descriptions (OpenAPI) that are watched: files, and directories of .json, .yaml and .yml files."
        ),
    )
    risk_interval_seconds: float = Field(
        default=60.0,
        ge=1.0,
        le=3_600.0,
        description="How often the risk of endpoints is computed, and `spec_paths` are read.",
    )
    partner_networks: tuple[str, ...] = Field(
        default=(), description="Networks (CIDR) of partners, for the exposure of endpoints."
    )

    # Detection.
    sensitivity: Sensitivity = Field(
        default=Sensitivity.NORMAL,
        description=(
            "Sensitivity of the detectors. A level that was chosen by the API holds until this setting changes."
        ),
    )
    time_zone: str = Field(
        default=UTC_NAME, description="IANA time zone of the hours of day and weekends that detectors learn."
    )

    # Operation.
    log_level: LogLevel = Field(default=LogLevel.INFO, description="Least severe messages that are logged.")

    @field_validator("data_dir", "kubernetes_account_dir", mode="before")
    @classmethod
    def _check_directory(cls, value: object) -> object:
        """An empty variable would be the working directory."""
        if value == "":
            raise ValueError("must name a directory; name one, or leave it out for the default")
        return value

    @field_validator(
        "consumer_order",
        "other_clusters",
        "partner_networks",
        "tls_server_names",
        "kubernetes_enrollment_accounts",
        "spec_paths",
        mode="before",
    )
    @classmethod
    def _split_commas(cls, value: object) -> object:
        """The environment gives a list as text with commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("partner_networks")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text!r} is no network ({error}); write it as 198.51.100.0/24") from None
        return value

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
        for name in ("grpc_listen", "http_listen") if self.no_auth else ():
            value = getattr(self, name)
            if not is_loopback(split_address(value)[0]):
                raise ValueError(
                    f"no_auth works on loopback only, but {name} is {value}; use 127.0.0.1 or drop --no-auth"
                )
        if self.no_auth and self.sensor_auth is not SensorAuth.AUTO:
            raise ValueError(f"no_auth and sensor_auth {self.sensor_auth.value} contradict each other; keep one")
        return self

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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` hands over: it orders the sources itself, to be able to name each in an error."""
        return (init_settings,)


def split_address(text: str) -> tuple[str, int]:
    """HOST:PORT to its parts, an IPv6 address in brackets; port 0 to 65535. Raises ValueError with a sentence."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    # A slash is of a URL: http://host:port would be the host http://host.
    if not colon or not host or "/" in host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, as in 127.0.0.1:7443 or [::1]:7443")
    return host, int(port)


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
    """The settings from all sources; in `flags`, None means not given. Raises ConfigError."""
    named = environment.get(CONFIG_VARIABLE)
    path = config_path or (Path(named) if named else None)
    if path is None and DEFAULT_CONFIG_PATH.exists():
        path = DEFAULT_CONFIG_PATH
    from_file = _read_file(path) if path else {}
    _check_keys(from_file, f"the file {path}")
    variables = [name for name in environment if name.startswith(ENVIRONMENT_PREFIX) and name != CONFIG_VARIABLE]
    from_environment = {name.removeprefix(ENVIRONMENT_PREFIX).lower(): environment[name] for name in variables}
    _check_keys(from_environment, "the environment", ENVIRONMENT_PREFIX)
    given = {name: value for name, value in flags.items() if value is not None}
    sources = {
        **dict.fromkeys(from_file, f"the file {path}"),
        **{name: f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in from_environment},
        **{name: f"--{name.replace('_', '-')}" for name in given},
    }
    try:
        return CollectorSettings(**{**from_file, **from_environment, **given})
    except ValidationError as error:
        raise ConfigError(_tell(error, sources)) from None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"The settings file {path} cannot be read ({error.strerror}); correct --config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The settings file {path} is not TOML ({error}); correct it.") from None


def _check_keys(names: Iterable[str], source: str, prefix: str = "") -> None:
    known = CollectorSettings.model_fields
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            shown, other = (prefix + word.upper() if prefix else word for word in (name, near[0] if near else ""))
            hint = f"did you mean {other}?" if near else "remove it."
            raise ConfigError(f"{shown} in {source} is no setting of the collector; {hint}")


def _tell(error: ValidationError, sources: Mapping[str, str]) -> str:
    """One sentence for the first fault; a secret's value is never in it."""
    fault = error.errors(include_url=False, include_context=False)[0]
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return f"{message}."
    name = str(fault["loc"][0])
    field = CollectorSettings.model_fields.get(name)
    value = "" if field is not None and "SecretStr" in str(field.annotation) else f" is {fault['input']!r}"
    return f"{name}{value} (from {sources.get(name, 'the default')}): {message[:1].lower() + message[1:]}."
