"""The settings of the sensor (common/settings.py): every one with its type, default, bounds and meaning."""

import os
import re
import socket
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import re2
from pydantic import Field, ValidationInfo, field_validator, model_validator

from common.networks import Networks
from common.settings import AS_JSON, Group, KubernetesUse, LogLevel, ProgramSettings, load, read_removed, split_address
from sensor.core.read_tls import READ_TLS_DEFAULT, ReadTls

PAGE_BYTES: Final = 4096
# A namespace's glob, or a namespace's and a workload's.
# What a truth value could be until 0.2 (pydantic), beside on and off.
_TRUTHS: Final = frozenset(("true", "1", "yes", "on", "t", "y"))
_UNTRUTHS: Final = frozenset(("false", "0", "no", "f", "n"))
_WORKLOAD_PATTERN: Final = re.compile(r"[a-z0-9*?][a-z0-9.*?-]*(/[a-z0-9*?][a-z0-9.*?-]*)?")
# Classes of data that an operator may name: as many as the wire keeps apart.
CUSTOM_CLASSES_MAX: Final = 4
# Networks that are never blocked, trusted proxies among them: as many as the kernel's table holds (bpf/enforce.h).
NEVER_BLOCKED_MAX: Final = 1_024
# Seconds of `heads_per_second` that may come at once: a node begins with many heads that are not known yet.
HEADS_BURST_SECONDS: Final = 2.5

# Names of version 0.1, for the sentence to whoever still uses one (docs/reference/settings.md has the table).
REMOVED: Final = read_removed("""
    token: now token_file, which is read again at each connection
    first_contact_timeout_seconds: the first start waits 30 s for a collector, in a Pod for an hour; remove it
    cache_dir: the compiled eBPF programs are in state_dir; remove it
    ready_file: in a Pod the file is /tmp/apidae-ready; elsewhere ask /readyz of metrics_listen
    consumer_order: now consumer_order of the collector, which sends it to its sensors
    is_watching_system_namespaces, include_system_namespaces: name them in included_workloads, as kube-system
    is_telling_probes: now include_health_checks
    is_telling_descriptions: now export_openapi_outlines
    include_own_traffic: Apidae's own calls are always excluded and counted; remove it
    is_recognising, match_in_kernel: known calls are always matched in the kernel; remove it
    is_reading_bodies: now read_bodies
    is_reading_tls: now read_tls, full for true and off for false
    is_enforcing: now enforcement.enabled
    never_block_cidrs: now enforcement.never_block_cidrs
    enforce_blocks_max_count: now enforcement.max_blocks
    enforce_max_seconds: now enforcement.max_block_seconds
    enforce_max_call_share: now enforcement.max_call_share
    enforce_ipv4_prefix_min_bits: now enforcement.min_ipv4_prefix_bits
    enforce_ipv6_prefix_min_bits: now enforcement.min_ipv6_prefix_bits
    enforce_without_collector_seconds: now enforcement.fail_open_after_seconds
    heads_burst_count: it is 2.5 seconds of heads_per_second; remove it
    poll_interval_ms, head_sample_seconds, samples_per_second: the sensor is calibrated for one value; remove it
    floor_heads_per_second, floor_body_bytes_per_second: the sensor is calibrated for one value; remove it
    body_sample_seconds, body_first_samples_count: the sensor is calibrated for one value; remove it
    tls_min_age_seconds, window_seconds, merged_window_seconds: the sensor is calibrated for one value; remove it
    rows_per_endpoint_count, rows_per_window_count: the sensor is calibrated for one value; remove it
    handover_seconds, pin_dir: the next sensor attaches beside this one with takeover_wait_seconds; remove it
""")


class CaptureWay(StrEnum):
    """How calls are seen (docs/internals/kernels.md)."""

    AUTO = "auto"  # By packets where the kernel lets us, else by system calls.
    CGROUP_SKB = "cgroup_skb"
    SYSCALLS = "syscalls"


class EnforcementSettings(Group):
    """What this node allows a collector to block (docs/use/response.md)."""

    enabled: bool = False
    """Let this sensor block clients. Without it the sensor never blocks."""
    never_block_cidrs: Networks = ()
    """Networks that are never blocked. With `trusted_proxy_cidrs` at most 1,024."""
    max_blocks: int = Field(default=100, ge=1, le=10_000)
    """Most blocks that are in force at once."""
    max_block_seconds: int = Field(default=86_400, ge=1, le=7 * 86_400)
    """Longest duration of a block; longer blocks are declined."""
    max_call_share: float = Field(default=0.5, gt=0, le=1)
    """Largest share of this node's calls in ten minutes that all blocked clients together may have made."""
    min_ipv4_prefix_bits: int = Field(default=24, ge=8, le=32)
    """Shortest prefix of an IPv4 network that may be blocked."""
    min_ipv6_prefix_bits: int = Field(default=56, ge=16, le=128)
    """Shortest prefix of an IPv6 network that may be blocked."""
    fail_open_after_seconds: float = Field(default=300.0, ge=1, le=86_400)
    """All blocks end when the collector has been away for this long."""


class SensorSettings(ProgramSettings):
    """All of them. What only we can choose is a constant beside its use, for each setting costs its reader a line."""

    program = "sensor"
    removed = REMOVED

    # Where rows are sent. Off loopback always by TLS.
    collector: str
    """Address of the collector's gRPC listener, as HOST:PORT."""
    token_file: Path | None = None
    """File with the sensors' token; it is read again at each connection."""
    collector_ca_file: Path | None = None
    """PEM file of the authorities that may sign the collector's certificate. Without it: those of the enrolment, else
    the system's."""
    collector_server_name: str = ""
    """Name that the collector's certificate must have, if it is not the host in `collector`."""
    client_cert_file: Path | None = None
    """PEM file of this sensor's certificate, if you issue it yourself instead of by enrolment."""
    client_key_file: Path | None = None
    """PEM file of the key of `client_cert_file`."""
    enrollment_token_file: Path | None = None
    """File with a one-time token or a Kubernetes service account token. A sensor without a certificate enrols itself
    with it."""

    # Names.
    cluster: str = Field(default="", max_length=253)
    """Name of the cluster that this node belongs to; empty on plain hosts."""
    node: str = Field(default_factory=socket.gethostname, min_length=1, max_length=253)
    """Name of this node. In Kubernetes it must be the node's name in the API."""

    # Kubernetes.
    kubernetes: KubernetesUse = KubernetesUse.AUTO
    """Whether the sensor asks the Kubernetes API for the Pods of this node. `auto`: in a Pod, or if a kubeconfig is
    set."""
    kubeconfig: Path | None = None
    """Kubeconfig file, for a sensor that runs outside a Pod."""
    zone: str = Field(default="", max_length=63)
    """Zone of this node. Without it, the node's label `topology.kubernetes.io/zone` is used."""
    pod_labels: tuple[str, ...] = (
        "app.kubernetes.io/name",
        "app.kubernetes.io/component",
        "app.kubernetes.io/part-of",
        "app.kubernetes.io/version",
    )
    """Labels of Pods that are sent to the collector; no other label is sent."""
    excluded_workloads: tuple[str, ...] = ()
    """Pods that are not watched, as NAMESPACE or NAMESPACE/WORKLOAD with `*` and `?`. Overrides all other rules."""
    included_workloads: tuple[str, ...] = ()
    """Pods that are watched whatever their annotations and labels say, in the same form."""
    include_health_checks: bool = False
    """Report health checks, kubelet probes and metrics scrapes as calls too."""

    # Files.
    state_dir: Path = Path("/var/lib/apidae/sensor")
    """Directory for keys, certificate, policy, spool and the compiled eBPF programs."""
    run_dir: Path = Path("/run/apidae")
    """Directory for the lock, the control socket and header tables over a restart; it should be in memory."""
    takeover_wait_seconds: float = Field(default=0.0, ge=0, le=3600)
    """How long a start waits for the sensor that runs on this node to stop. 0: the start is refused."""
    spool_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024, le=64 * 1024**3)
    """Disk space for batches that the collector has not acknowledged. Past it the oldest batches are dropped."""

    # Capture.
    capture: CaptureWay = CaptureWay.AUTO
    """How calls are captured. `auto`: by packets if the kernel allows it, else by system calls."""
    cgroup_path: Path = Path("/sys/fs/cgroup")
    """The cgroup v2 directory to watch, with all that is below it. The default is the whole host."""
    proc_path: Path = Path("/proc")
    """Where the node's /proc is mounted, for a sensor in a container with its own PID namespace."""
    ring_bytes: int = Field(default=8 * 1024 * 1024, ge=PAGE_BYTES, le=1024**3)
    """Size of the ring buffer between kernel and sensor; a power of two."""

    # Request heads: how many are copied to user space.
    heads_per_second: int = Field(default=2_000, ge=1, le=1_000_000)
    """Most request heads that are copied to user space, for each cgroup; for the node twice as many."""
    capture_budget_core_share: float = Field(default=0.03, gt=0, le=64)
    """CPU budget in cores, for each 10,000 calls/s, eBPF programs included. Above it the governor lowers the limits of
    bodies, then of heads."""

    # Bodies, and what is read in them.
    read_bodies: bool = True
    """Copy sampled bodies to user space and classify them there. Bodies are never stored or sent."""
    body_bytes_per_second: int = Field(default=1024 * 1024, ge=1, le=1024**3)
    """Most bytes of bodies that are copied to user space, for each cgroup; for the node twice as many."""
    custom_data_classes: Annotated[tuple[str, ...], AS_JSON] = ()
    """Your own classes of sensitive data, as up to 4 RE2 patterns. They are reported as `custom_1` to `custom_4`."""
    export_openapi_outlines: bool = True
    """Send the outline of API descriptions that services publish, such as /openapi.json."""
    attack_bytes_per_second: int = Field(default=256 * 1024, ge=0, le=1024**3)
    """Most bytes of requests that are checked for attack payloads, at most a quarter for one consumer. 0: none."""

    # TLS.
    read_tls: ReadTls = READ_TLS_DEFAULT
    """Read HTTP in TLS, where processes hand it to their TLS library. `auto`: as much as adds at most 2 % of their CPU;
    `full`: up to `heads_per_second`. In YAML write "off" with quotes."""

    # What a collector can have this sensor block, and which proxies it trusts.
    enforcement: EnforcementSettings = EnforcementSettings()
    trusted_proxy_cidrs: Networks = ()
    """Networks of proxies whose forwarding headers count. They are never blocked."""

    # Operation.
    metrics_listen: str = ""
    """HOST:PORT for Prometheus metrics and health probes, without TLS. Empty: nothing listens."""
    log_level: LogLevel = LogLevel.INFO
    """Least severe messages that are logged."""

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

    @field_validator("read_tls", mode="before")
    @classmethod
    def _check_read_tls(cls, value: object) -> object:
        """Until 0.2 it was a truth value, which had many words, and YAML reads off as false."""
        word = str(value).lower()
        if word in _TRUTHS:
            raise ValueError("takes off, auto or full: give full")
        if word in _UNTRUTHS:
            raise ValueError('takes off, auto or full: give "off", with quotes in YAML')
        return word

    @field_validator("excluded_workloads", "included_workloads")
    @classmethod
    def _check_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not _WORKLOAD_PATTERN.fullmatch(pattern):
                raise ValueError(f"has {pattern!r}; give NAMESPACE or NAMESPACE/WORKLOAD, with * and ? as in kube-*")
        return value

    @field_validator("ring_bytes")
    @classmethod
    def _check_ring(cls, value: int) -> int:
        # BPF_MAP_TYPE_RINGBUF takes a power of two of whole pages (kernel/bpf/ringbuf.c).
        if value & (value - 1):
            raise ValueError("must be a power of two")
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
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file belong together; set both or none")
        never = {*self.enforcement.never_block_cidrs, *self.trusted_proxy_cidrs}
        if self.enforcement.enabled and len(never) > NEVER_BLOCKED_MAX:
            raise ValueError(
                f"enforcement.never_block_cidrs and trusted_proxy_cidrs name {len(never)} networks; a sensor that "
                f"enforces holds {NEVER_BLOCKED_MAX}: join neighbours to wider ones"
            )
        return self

    @property
    def heads_burst(self) -> int:
        """Request heads that may be copied at once."""
        return max(1, int(self.heads_per_second * HEADS_BURST_SECONDS))

    def read_token(self) -> str:
        """The token now; empty where there is none. Raises OSError where the file cannot be read."""
        return self.token_file.read_text().strip() if self.token_file is not None else ""


def load_settings(
    flags: Mapping[str, Any],
    *,
    config_path: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    defaults: Mapping[str, Any] | None = None,
) -> SensorSettings:
    """As `load`. Raises ConfigError."""
    return load(SensorSettings, flags, config_path=config_path, environment=environment, defaults=defaults)
