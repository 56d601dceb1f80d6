"""What to do about a reason for which calls are not read, not reported or not sent: one sentence each.

The reasons are those of the coverage report (`PortProtocol`) and of the stages' accounts (`StageCount.dropped`).
`apidae trace` prints them; docs/use/troubleshooting.md explains the stages.
"""

from typing import Final

from sensor.coverage.row import PortProtocol

_LIBRARIES: Final = "docs/use/tls.md lists the libraries that are read, and what to do about the others."
_BEHIND: Final = "Its calls are seen where they go on without TLS, such as behind a proxy that ends it."
_MORE_ROOM: Final = "Give the sensor more CPU (capture_budget_core_share) or a larger ring (ring_bytes)."
_REPORT: Final = "Report it with the sensor's log."
_NOT_HTTP: Final = "Nothing, unless this client should speak HTTP: then look what it sends, as with tcpdump."

# By what the first bytes of a port's connections were; empty where its calls are read, or the reason says what to do.
OF_PROTOCOLS: Final[dict[PortProtocol, str]] = {
    PortProtocol.HTTP: "",
    PortProtocol.HTTP2: "",
    PortProtocol.HTTPS: "",
    PortProtocol.ENCRYPTED: _LIBRARIES,
    PortProtocol.OTHER: _NOT_HTTP,
    PortProtocol.SILENT: "Check that the client's address and port are these, and that it reaches this node.",
    PortProtocol.UNIX: "Let it listen on TCP on loopback to have it read.",
    PortProtocol.QUIC: _BEHIND,
    PortProtocol.SOCKMAP: "Find which software uses sockmaps, such as a service mesh, and switch that off for it.",
    PortProtocol.MISSED: "",
    PortProtocol.LEFT_OUT: "Change the setting that the reason names; Apidae's own calls are never reported.",
    PortProtocol.KERNEL_TLS: "Switch kernel TLS off in the server.",
}
READ_TLS_IS_OFF: Final = "Set read_tls to auto, with which the sensor reads TLS in the process."

# By the reason of a stage's account.
OF_DROPS: Final[dict[str, str]] = {
    "ring_full": _MORE_ROOM,
    "pipeline_too_deep": "Find the client that sends so many requests without waiting for answers.",
    "over_budget": "Raise heads_per_second.",
    "java": "Give the sensor more CPU, or raise heads_per_second.",
    "looked_away": "Raise heads_per_second, so that processes of TLS are read all the time.",
    "request_head_lost": "Calls that began before the sensor look so; if it goes on, look for packet loss.",
    "request_empty": _NOT_HTTP,
    "request_request_line": _NOT_HTTP,
    "request_request_line_truncated": "Its request line is longer than the sensor copies; shorten the URL.",
    "request_version": _NOT_HTTP,
    "request_method": _NOT_HTTP,
    "request_target": _NOT_HTTP,
    "failed": _REPORT,
    "routes_full": "Find the client that calls so many different paths.",
    "rows_full": "Find the service with so many consumers and paths within one window.",
    "unwritable": _REPORT,
    "disk_error": "Make room on the disk of state_dir, or make it writable.",
    "unreadable": "Check the disk of state_dir.",
    "spool_full": "Let the sensor reach its collector again, or raise spool_bytes.",
    "refused": "Read the sensor's log: it has the collector's reason.",
}
