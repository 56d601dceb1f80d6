"""The sensor's settings, validated once at the start into a frozen object.

A setting comes from the first of these sources that has it:

- a flag (`--state-dir`)
- the environment (`APIDAE_SENSOR_STATE_DIR`)
- the TOML file: `state_dir = ...` in `--config`, else /etc/apidae/sensor.toml where it exists
- the default in this module

An unknown key in the file or in the environment is an error that names it. Otherwise a typing mistake would silently
become a default.
"""

import difflib
import ipaddress
import os
import re
import socket
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import re2
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

ENVIRONMENT_PREFIX: Final = "APIDAE_SENSOR_"
# Names the file, so it cannot be in it.
CONFIG_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"
DEFAULT_CONFIG_PATH: Final = Path("/etc/apidae/sensor.toml")
PAGE_BYTES: Final = 4096
# A namespace's glob, or a namespace's and a workload's.
_WORKLOAD_PATTERN: Final = re.compile(r"[a-z0-9*?][a-z0-9.*?-]*(/[a-z0-9*?][a-z0-9.*?-]*)?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Classes of data that an operator may name: as many as the wire keeps apart.
CUSTOM_CLASSES_MAX: Final = 4
# Networks that are never blocked, trusted proxies among them: as many as the kernel's table holds (bpf/enforce.h).
NEVER_BLOCKED_MAX: Final = 1_024
MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")  # Where IPv6 writes IPv4.


class ConfigError(Exception):
    """A setting is wrong; one sentence that names it, its value, where it came from, and what is allowed."""


class ConsumerColumn(StrEnum):
    """A column that may name the consumer; the order here is the default one."""

    PRINCIPAL = "principal"
    CREDENTIAL = "credential"
    CLIENT_ADDRESS = "client_address"
    CLIENT_WORKLOAD = "client_workload"


class CaptureWay(StrEnum):
    """How calls are seen (docs/internals/kernels.md)."""

    AUTO = "auto"  # By packets where the kernel lets us, else by system calls.
    CGROUP_SKB = "cgroup_skb"
    SYSCALLS = "syscalls"


class KubernetesUse(StrEnum):
    """Whether the API server of Kubernetes is asked who the Pods of this node are (docs/kubernetes.md)."""

    AUTO = "auto"  # In a Pod yes, elsewhere where a kubeconfig is given.
    ON = "on"
    OFF = "off"


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class SensorSettings(BaseModel):
    """All of them. Secrets are `SecretStr`, so no repr shows one.

    Not pydantic-settings: `load_settings` orders the sources itself, to name each in an error, and that package costs
    each node 2 MB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    # Where the rows go. Off loopback always by TLS, with the system's authorities unless a file is given.
    collector: str = Field(description="HOST:PORT of the collector's gRPC listener")
    token: SecretStr | None = None
    token_file: Path | None = None
    collector_ca_file: Path | None = None
    collector_server_name: str = ""
    # What shows who this sensor is: a certificate of the operator's making, or one that it gets by enrolment and keeps
    # in state_dir; it enrols itself where it has none and is given a token, one-time or a Kubernetes service account's.
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    enrollment_token_file: Path | None = None
    # How long the first start, which has no installation key yet, waits for a collector.
    first_contact_timeout_seconds: float = Field(default=30.0, gt=0, le=3600)

    # Who this is.
    cluster: str = Field(default="", max_length=253)
    node: str = Field(default_factory=socket.gethostname, min_length=1, max_length=253)

    # Kubernetes: the Pods of `node`, which must be its name there. The zone is the node's label's unless it is given;
    # of Pods, only these labels are told.
    kubernetes: KubernetesUse = KubernetesUse.AUTO
    kubeconfig: Path | None = None
    zone: str = Field(default="", max_length=63)
    pod_labels: tuple[str, ...] = (
        "app.kubernetes.io/name",
        "app.kubernetes.io/component",
        "app.kubernetes.io/part-of",
        "app.kubernetes.io/version",
    )
    # Which Pods are watched, by NAMESPACE or NAMESPACE/WORKLOAD with * and ?. These go before annotations and labels.
    excluded_workloads: tuple[str, ...] = ()
    included_workloads: tuple[str, ...] = ()
    is_watching_system_namespaces: bool = False
    # Calls of kubelets, scrapers and load balancers that only ask whether a service lives, in the inventory too.
    is_telling_probes: bool = False
    # Apidae's own calls in the inventory too: what its collector serves and calls, and what this sensor does.
    include_own_traffic: bool = False

    # Where it keeps keys, policy and spool, and where its lock and control socket are.
    state_dir: Path = Path("/var/lib/apidae/sensor")
    # The compiled kernel side, for faster starts; None: in state_dir. Written by root only, or it is not read.
    cache_dir: Path | None = None
    run_dir: Path = Path("/run/apidae")
    # How long a start waits for the sensor that runs on this node to end, prepared to take its place; 0: it is refused.
    takeover_wait_seconds: float = Field(default=0.0, ge=0, le=3600)
    # Made while this sensor captures, or can take the place of the one before it, for who cannot ask its metrics port.
    ready_file: Path | None = None
    spool_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024, le=64 * 1024**3)

    # What it sees, and how.
    capture: CaptureWay = CaptureWay.AUTO
    # The cgroup v2 directory that is watched with all below it; of a directory above the mount, the mount.
    cgroup_path: Path = Path("/sys/fs/cgroup")
    # The node's processes. In a container that is not in the node's PID namespace: where the node's /proc is mounted.
    proc_path: Path = Path("/proc")
    ring_bytes: int = Field(default=8 * 1024 * 1024, ge=PAGE_BYTES, le=1024**3)
    poll_interval_ms: int = Field(default=25, ge=5, le=1000)

    # What the kernel recognises goes up as one record a call; of the rest so many heads a second go up, for a cgroup
    # and (twice as many) for the node. Heads give way where the sensor takes more of a core than the budget, which is
    # for 10,000 calls a second. Each known route is sampled now and then, all routes together so often.
    is_recognising: bool = True
    head_sample_seconds: float = Field(default=10.0, ge=0.1, le=3600)
    samples_per_second: int = Field(default=30, ge=1, le=100_000)
    heads_per_second: int = Field(default=2_000, ge=1, le=1_000_000)
    heads_burst_count: int = Field(default=5_000, ge=1, le=1_000_000)
    floor_heads_per_second: int = Field(default=100, ge=1, le=1_000_000)
    capture_budget_core_share: float = Field(default=0.03, gt=0, le=64)
    # Bodies of samples: read on this node for kinds of data and numbers of records, and never kept. Bytes are those of
    # one cgroup, the node has twice as many; the first calls of a route are all samples, then one in each interval, of
    # a busy route whose requests have no body in each eight.
    is_reading_bodies: bool = True
    body_bytes_per_second: int = Field(default=1024 * 1024, ge=1, le=1024**3)
    floor_body_bytes_per_second: int = Field(default=16 * 1024, ge=1, le=1024**3)
    # Classes of sensitive data of your own: patterns of RE2, told as custom_1 to custom_4 in this order.
    custom_data_classes: tuple[str, ...] = ()
    # Of descriptions that services serve themselves (/openapi.json) the outline is told, without sentences and values.
    is_telling_descriptions: bool = True
    body_sample_seconds: float = Field(default=1.0, ge=0.1, le=3600)
    body_first_samples_count: int = Field(default=20, ge=0, le=1_000)
    # Of what goes up whole, so many bytes a second are held against the attack rules, at most a fourth of them of one
    # consumer; 0: none.
    attack_bytes_per_second: int = Field(default=256 * 1024, ge=0, le=1024**3)

    # TLS, where processes hand it to their libraries (docs/use/tls.md); shorter-lived processes are skipped.
    is_reading_tls: bool = False
    tls_min_age_seconds: float = Field(default=2.0, ge=0, le=3600)

    # Enforcement: what a collector may have this sensor stop (docs/response.md). Nothing until it is switched on here,
    # and never more than this; networks of trusted proxies are never blocked either.
    is_enforcing: bool = False
    never_block_cidrs: tuple[Network, ...] = ()
    enforce_blocks_max_count: int = Field(default=100, ge=1, le=10_000)
    enforce_max_seconds: int = Field(default=86_400, ge=1, le=7 * 86_400)
    # Of this node's calls in ten minutes, those that all blocked clients together made.
    enforce_max_call_share: float = Field(default=0.5, gt=0, le=1)
    # The widest networks that may be blocked.
    enforce_ipv4_prefix_min_bits: int = Field(default=24, ge=8, le=32)
    enforce_ipv6_prefix_min_bits: int = Field(default=56, ge=16, le=128)
    # Everything is lifted when the collector has been away for so long.
    enforce_without_collector_seconds: float = Field(default=300.0, ge=1, le=86_400)

    # How calls are named and summed.
    trusted_proxy_cidrs: tuple[Network, ...] = ()
    consumer_order: tuple[ConsumerColumn, ...] = tuple(ConsumerColumn)
    window_seconds: int = Field(default=10, ge=1, le=60)
    merged_window_seconds: int = Field(default=60, ge=1, le=600)
    rows_per_endpoint_count: int = Field(default=1_000, ge=1, le=100_000)
    rows_per_window_count: int = Field(default=20_000, ge=1, le=1_000_000)

    # How it is watched.
    metrics_listen: str = ""
    log_level: LogLevel = LogLevel.INFO

    @field_validator("state_dir", "cache_dir", "run_dir", "cgroup_path", "proc_path", mode="before")
    @classmethod
    def _check_directory(cls, value: object) -> object:
        """An empty variable would be the working directory."""
        if value == "":
            raise ValueError("must name a directory; name one, or leave it out for the default")
        return value

    @field_validator(
        *("trusted_proxy_cidrs", "consumer_order", "pod_labels", "excluded_workloads", "included_workloads"),
        "never_block_cidrs",
        mode="before",
    )
    @classmethod
    def _split_commas(cls, value: object) -> object:
        """The environment and flags give a list as text with commas; JSON stays possible."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxy_cidrs", "never_block_cidrs")
    @classmethod
    def _read_mapped(cls, value: tuple[Network, ...]) -> tuple[Network, ...]:
        return tuple(unmap(network) for network in value)

    @field_validator("custom_data_classes")
    @classmethod
    def _check_classes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """At the start, not at the first body; sensor.sensitive.document makes them."""
        if len(value) > CUSTOM_CLASSES_MAX:
            raise ValueError(f"has {len(value)} patterns; give at most {CUSTOM_CLASSES_MAX}")
        for pattern in value:
            try:
                re2.compile(pattern)
            except re2.error as error:
                raise ValueError(f"{pattern!r} is no pattern of RE2 ({error}); correct it") from None
        return value

    @field_validator("excluded_workloads", "included_workloads")
    @classmethod
    def _check_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not _WORKLOAD_PATTERN.fullmatch(pattern):
                raise ValueError(f"has {pattern!r}; give NAMESPACE or NAMESPACE/WORKLOAD, with * and ? as in kube-*")
        return value

    @field_validator("kubeconfig", mode="before")
    @classmethod
    def _take_empty(cls, value: object) -> object:
        """An empty variable names no file."""
        return None if value == "" else value

    @field_validator("ring_bytes")
    @classmethod
    def _check_ring(cls, value: int) -> int:
        # BPF_MAP_TYPE_RINGBUF takes a power of two of whole pages (kernel/bpf/ringbuf.c).
        if value & (value - 1):
            raise ValueError("must be a power of two")
        return value

    @field_validator("consumer_order")
    @classmethod
    def _check_order(cls, value: tuple[ConsumerColumn, ...]) -> tuple[ConsumerColumn, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("must name at least one column and none twice")
        return value

    @field_validator("collector", "metrics_listen")
    @classmethod
    def _check_address(cls, value: str, info: ValidationInfo) -> str:
        is_collector = info.field_name == "collector"
        if (value or is_collector) and not split_address(value)[1] and is_collector:
            raise ValueError("has port 0; give the port on which the collector listens")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> "SensorSettings":
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are both set; keep one")
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file belong together; set both or none")
        if self.merged_window_seconds % self.window_seconds:
            raise ValueError(
                f"merged_window_seconds is {self.merged_window_seconds}; "
                f"it must be a multiple of window_seconds, {self.window_seconds}"
            )
        never = {*self.never_block_cidrs, *self.trusted_proxy_cidrs}
        if self.is_enforcing and len(never) > NEVER_BLOCKED_MAX:
            raise ValueError(
                f"never_block_cidrs and trusted_proxy_cidrs name {len(never)} networks; a sensor that enforces holds "
                f"{NEVER_BLOCKED_MAX}: join neighbours to wider ones"
            )
        return self

    def read_token(self) -> str:
        """The token now; empty where there is none. Raises OSError where the file cannot be read."""
        if self.token_file is not None:
            return self.token_file.read_text().strip()
        return self.token.get_secret_value() if self.token else ""


def unmap(network: Network) -> Network:
    """IPv4 that is written as IPv6 (RFC 4291, 2.5.5.2) as IPv4, as addresses are."""
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
        first = int(network.network_address) - int(MAPPED.network_address)
        return ipaddress.IPv4Network((first, network.prefixlen - MAPPED.prefixlen))
    return network


def split_address(text: str) -> tuple[str, int]:
    """HOST:PORT to its parts, an IPv6 address in brackets; port 0 to 65535. Raises ValueError with a sentence."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    # A slash is of a URL: http://host:port would be the host http://host.
    if not colon or not host or "/" in host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, as in collector.example:7443 or [2001:db8::1]:7443")
    return host, int(port)


def load_settings(
    flags: Mapping[str, Any],
    *,
    config_path: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    defaults: Mapping[str, Any] | None = None,
) -> SensorSettings:
    """The settings from all sources; `flags` holds those that were given, `defaults` stand in for what no source has.
    Raises `ConfigError`."""
    path = config_path or _find_config(environment)
    from_file = _read_file(path) if path else {}
    _check_keys(from_file, f"the file {path}")
    variables = {name for name in environment if name.startswith(ENVIRONMENT_PREFIX) and name != CONFIG_VARIABLE}
    _check_keys(
        [name.removeprefix(ENVIRONMENT_PREFIX).lower() for name in variables], "the environment", ENVIRONMENT_PREFIX
    )
    from_environment = {name.removeprefix(ENVIRONMENT_PREFIX).lower(): environment[name] for name in variables}
    given = {name: value for name, value in flags.items() if value is not None}
    sources = {
        **dict.fromkeys(from_file, f"the file {path}"),
        **{name: f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in from_environment},
        **{name: f"--{name.replace('_', '-')}" for name in given},
    }
    try:
        return SensorSettings(**{**(defaults or {}), **from_file, **from_environment, **given})
    except ValidationError as error:
        raise ConfigError(_tell(error, sources)) from None


def _find_config(environment: Mapping[str, str]) -> Path | None:
    named = environment.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_CONFIG_PATH if DEFAULT_CONFIG_PATH.exists() else None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read ({error.strerror}); correct --config") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the settings file {path} is not TOML ({error}); correct it") from None


def _check_keys(names: Mapping[str, Any] | list[str], source: str, prefix: str = "") -> None:
    known = SensorSettings.model_fields
    for name in names:
        if name not in known:
            shown = prefix + name.upper() if prefix else name
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {prefix + near[0].upper() if prefix else near[0]}?" if near else "remove it"
            raise ConfigError(f"{shown} in {source} is no setting of the sensor; {hint}")


def _tell(error: ValidationError, sources: Mapping[str, str]) -> str:
    """One sentence for the first fault; a secret's value is never in it."""
    fault = error.errors(include_url=False, include_context=False)[0]
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    if fault["type"] == "missing":
        return f"{name} is not set; give --{name.replace('_', '-')} or {ENVIRONMENT_PREFIX}{name.upper()}"
    value = "" if name == "token" else f" is {fault['input']!r}"
    return f"{name}{value} (from {sources.get(name, 'the default')}): {message[:1].lower() + message[1:]}"
