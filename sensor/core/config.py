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
    """Whether the API server of Kubernetes is asked who the Pods of this node are (docs/use/kubernetes.md)."""

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

    # Where rows are sent. Off loopback always by TLS.
    collector: str = Field(description="Address of the collector's gRPC listener, as HOST:PORT.")
    token: SecretStr | None = Field(
        default=None, description="The sensors' token, for a collector that accepts tokens."
    )
    token_file: Path | None = Field(
        default=None, description="File with the sensors' token; it is read again at each connection."
    )
    collector_ca_file: Path | None = Field(
        default=None,
        description=(
            "PEM file of the authorities that may sign the collector's certificate. Without it: those of the "
            "enrolment, else the system's."
        ),
    )
    collector_server_name: str = Field(
        default="", description="Name that the collector's certificate must have, if it is not the host in `collector`."
    )
    client_cert_file: Path | None = Field(
        default=None,
        description="PEM file of this sensor's certificate, if you issue it yourself instead of by enrolment.",
    )
    client_key_file: Path | None = Field(default=None, description="PEM file of the key of `client_cert_file`.")
    enrollment_token_file: Path | None = Field(
        default=None,
        description=(
            "File with a one-time token or a Kubernetes service account token. A sensor without a certificate "
            "enrols itself with it."
        ),
    )
    first_contact_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description=(
            "How long the first start waits for a collector. A sensor without an installation key cannot run "
            "without one."
        ),
    )

    # Names.
    cluster: str = Field(
        default="", max_length=253, description="Name of the cluster that this node belongs to; empty on plain hosts."
    )
    node: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=253,
        description="Name of this node. In Kubernetes it must be the node's name in the API.",
    )

    # Kubernetes.
    kubernetes: KubernetesUse = Field(
        default=KubernetesUse.AUTO,
        description=(
            "Whether the sensor asks the Kubernetes API for the Pods of this node. `auto`: in a Pod, or if a "
            "kubeconfig is set."
        ),
    )
    kubeconfig: Path | None = Field(default=None, description="Kubeconfig file, for a sensor that runs outside a Pod.")
    zone: str = Field(
        default="",
        max_length=63,
        description="Zone of this node. Without it, the node's label `topology.kubernetes.io/zone` is used.",
    )
    pod_labels: tuple[str, ...] = Field(
        default=(
            "app.kubernetes.io/name",
            "app.kubernetes.io/component",
            "app.kubernetes.io/part-of",
            "app.kubernetes.io/version",
        ),
        description="Labels of Pods that are sent to the collector; no other label is sent.",
    )
    excluded_workloads: tuple[str, ...] = Field(
        default=(),
        description=(
            "Pods that are not watched, as NAMESPACE or NAMESPACE/WORKLOAD with `*` and `?`. Overrides all other rules."
        ),
    )
    included_workloads: tuple[str, ...] = Field(
        default=(), description="Pods that are watched whatever their annotations and labels say, in the same form."
    )
    is_watching_system_namespaces: bool = Field(
        default=False, description="Watch Pods of system namespaces such as `kube-system` too."
    )
    is_telling_probes: bool = Field(
        default=False, description="Report health checks, kubelet probes and metrics scrapes as calls too."
    )
    include_own_traffic: bool = Field(default=False, description="Report Apidae's own calls too.")

    # Files.
    state_dir: Path = Field(
        default=Path("/var/lib/apidae/sensor"),
        description="Directory for the installation key, certificate, policy and spool.",
    )
    cache_dir: Path | None = Field(
        default=None,
        description=(
            "Directory for the compiled eBPF programs. Without it, `state_dir`. The sensor ignores files that "
            "others could have written."
        ),
    )
    run_dir: Path = Field(
        default=Path("/run/apidae"),
        description=(
            "Directory for the lock, the control socket and header tables over a restart; it should be in memory."
        ),
    )
    takeover_wait_seconds: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="How long a start waits for the sensor that runs on this node to stop. 0: the start is refused.",
    )
    ready_file: Path | None = Field(
        default=None,
        description=(
            "File that exists while the sensor captures, or is ready to replace the one that runs. For probes "
            "that cannot use `metrics_listen`."
        ),
    )
    spool_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        le=64 * 1024**3,
        description=(
            "Disk space for batches that the collector has not acknowledged. Past it the oldest batches are dropped."
        ),
    )

    # Capture.
    capture: CaptureWay = Field(
        default=CaptureWay.AUTO,
        description="How calls are captured. `auto`: by packets if the kernel allows it, else by system calls.",
    )
    cgroup_path: Path = Field(
        default=Path("/sys/fs/cgroup"),
        description="The cgroup v2 directory to watch, with all that is below it. The default is the whole host.",
    )
    proc_path: Path = Field(
        default=Path("/proc"),
        description="Where the node's /proc is mounted, for a sensor in a container with its own PID namespace.",
    )
    ring_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=PAGE_BYTES,
        le=1024**3,
        description="Size of the ring buffer between kernel and sensor; a power of two.",
    )
    poll_interval_ms: int = Field(default=25, ge=5, le=1000, description="How often the ring buffer is read.")

    # Request heads: how many are copied to user space.
    is_recognising: bool = Field(
        default=True,
        description=(
            "Match known calls in the kernel and report each as one short record. Without it every request head "
            "is copied to user space."
        ),
    )
    head_sample_seconds: float = Field(
        default=10.0, ge=0.1, le=3600, description="How often the kernel samples each known route."
    )
    samples_per_second: int = Field(
        default=30, ge=1, le=100_000, description="Most samples of all known routes together."
    )
    heads_per_second: int = Field(
        default=2_000,
        ge=1,
        le=1_000_000,
        description="Most request heads that are copied to user space, for each cgroup; for the node twice as many.",
    )
    heads_burst_count: int = Field(
        default=5_000, ge=1, le=1_000_000, description="How many request heads may exceed `heads_per_second` at once."
    )
    floor_heads_per_second: int = Field(
        default=100, ge=1, le=1_000_000, description="Where the governor stops lowering `heads_per_second`."
    )
    capture_budget_core_share: float = Field(
        default=0.03,
        gt=0,
        le=64,
        description=(
            "CPU budget in cores, for each 10,000 calls/s, eBPF programs included. Above it the governor lowers "
            "the limits of bodies, then of heads."
        ),
    )

    # Bodies, and what is read in them.
    is_reading_bodies: bool = Field(
        default=True,
        description="Copy sampled bodies to user space and classify them there. Bodies are never stored or sent.",
    )
    body_bytes_per_second: int = Field(
        default=1024 * 1024,
        ge=1,
        le=1024**3,
        description="Most bytes of bodies that are copied to user space, for each cgroup; for the node twice as many.",
    )
    floor_body_bytes_per_second: int = Field(
        default=16 * 1024, ge=1, le=1024**3, description="Where the governor stops lowering `body_bytes_per_second`."
    )
    custom_data_classes: tuple[str, ...] = Field(
        default=(),
        description=(
            "Your own classes of sensitive data, as RE2 patterns. They are reported as `custom_1` to `custom_4`."
        ),
    )
    is_telling_descriptions: bool = Field(
        default=True, description="Send the outline of API descriptions that services publish, such as /openapi.json."
    )
    body_sample_seconds: float = Field(
        default=1.0, ge=0.1, le=3600, description="How often a body of each route is sampled, after its first samples."
    )
    body_first_samples_count: int = Field(
        default=20, ge=0, le=1_000, description="How many first calls of a route are sampled in full."
    )
    attack_bytes_per_second: int = Field(
        default=256 * 1024,
        ge=0,
        le=1024**3,
        description=(
            "Most bytes of requests that are checked for attack payloads, at most a quarter for one consumer. 0: none."
        ),
    )

    # TLS.
    is_reading_tls: bool = Field(
        default=False,
        description=(
            "Read HTTP in TLS, where processes hand it to their TLS library. It adds latency to those processes."
        ),
    )
    tls_min_age_seconds: float = Field(
        default=2.0, ge=0, le=3600, description="How long a process must have run before its TLS is read."
    )

    # Enforcement: what a collector can have this sensor block.
    is_enforcing: bool = Field(
        default=False, description="Let this sensor block clients. Without it the sensor never blocks."
    )
    never_block_cidrs: tuple[Network, ...] = Field(
        default=(), description="Networks that are never blocked. With `trusted_proxy_cidrs` at most 1,024."
    )
    enforce_blocks_max_count: int = Field(
        default=100, ge=1, le=10_000, description="Most blocks that are in force at once."
    )
    enforce_max_seconds: int = Field(
        default=86_400, ge=1, le=7 * 86_400, description="Longest duration of a block; longer blocks are declined."
    )
    enforce_max_call_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description=(
            "Largest share of this node's calls in ten minutes that all blocked clients together may have made."
        ),
    )
    enforce_ipv4_prefix_min_bits: int = Field(
        default=24, ge=8, le=32, description="Shortest prefix of an IPv4 network that may be blocked."
    )
    enforce_ipv6_prefix_min_bits: int = Field(
        default=56, ge=16, le=128, description="Shortest prefix of an IPv6 network that may be blocked."
    )
    enforce_without_collector_seconds: float = Field(
        default=300.0, ge=1, le=86_400, description="All blocks end when the collector has been away for this long."
    )

    # Consumers and rows.
    trusted_proxy_cidrs: tuple[Network, ...] = Field(
        default=(), description="Networks of proxies whose forwarding headers count. They are never blocked."
    )
    consumer_order: tuple[ConsumerColumn, ...] = Field(
        default=tuple(ConsumerColumn),
        description="What names the consumer of a call: the first of these that is known. Use the collector's order.",
    )
    window_seconds: int = Field(
        default=10,
        ge=1,
        le=60,
        description="Length of a window in which calls are summed. The detectors are calibrated for 10 s.",
    )
    merged_window_seconds: int = Field(
        default=60,
        ge=1,
        le=600,
        description="Length of the windows that are kept while the collector is away; a multiple of `window_seconds`.",
    )
    rows_per_endpoint_count: int = Field(
        default=1_000, ge=1, le=100_000, description="Most rows of an endpoint in a window; rows beyond it are merged."
    )
    rows_per_window_count: int = Field(
        default=20_000, ge=1, le=1_000_000, description="Most rows of a window; rows beyond it are merged."
    )

    # Operation.
    metrics_listen: str = Field(
        default="",
        description="HOST:PORT for Prometheus metrics and health probes, without TLS. Empty: nothing listens.",
    )
    log_level: LogLevel = Field(default=LogLevel.INFO, description="Least severe messages that are logged.")

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
