"""Applications from Debian, unpacked beside each other. Routes are those of their documentation."""

from typing import Final

from scripts.bench_cases.applying.application import OPEN_CHANGES, Application

PROMETHEUS: Final = Application(
    name="prometheus",
    debian=("prometheus",),
    python=("requests",),
    routes=(
        "GET /api/v1/query", "POST /api/v1/query", "GET /api/v1/query_range", "POST /api/v1/query_range",
        "GET /api/v1/labels", "GET /api/v1/label/{name}/values", "GET /api/v1/series", "GET /api/v1/targets",
        "GET /api/v1/rules", "GET /api/v1/alerts", "GET /api/v1/metadata", "GET /api/v1/status/config",
        "GET /api/v1/status/flags", "GET /api/v1/status/buildinfo", "GET /api/v1/status/tsdb", "GET /-/healthy",
        "GET /-/ready", "GET /metrics", "GET /federate", "GET /api/v1/status/runtimeinfo",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

PUSHGATEWAY: Final = Application(
    name="pushgateway",
    debian=("prometheus-pushgateway",),
    python=("prometheus-client", "requests"),
    routes=(
        "GET /metrics", "GET /-/healthy", "GET /-/ready", "GET /api/v1/status", "GET /api/v1/metrics", "GET /",
        "PUT /metrics/job/{job}", "POST /metrics/job/{job}", "DELETE /metrics/job/{job}",
        *(f"{method} /metrics/job/{{job}}/{{label}}/{{value}}" for method in ("PUT", "POST", "DELETE")),
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

CADDY: Final = Application(
    name="caddy",
    debian=("caddy",),
    python=("requests",),
    routes=(
        "GET /", "GET /{path:path}", "HEAD /{path:path}",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

INFLUXDB: Final = Application(
    name="influxdb",
    debian=("influxdb",),
    python=("influxdb", "setuptools<81"),
    routes=(
        "GET /ping", "HEAD /ping", "POST /write", "GET /query", "POST /query", "GET /debug/vars", "GET /health",
    ),
    authentication={"*": "basic"},
)  # fmt: skip

ETCD: Final = Application(
    name="etcd",
    debian=("etcd-server",),
    python=("requests",),
    routes=(
        "GET /version", "GET /health", "GET /metrics", "POST /v3/kv/put", "POST /v3/kv/range",
        "POST /v3/kv/deleterange", "POST /v3/kv/txn", "POST /v3/lease/grant", "POST /v3/lease/keepalive",
        "POST /v3/lease/revoke", "POST /v3/cluster/member/list", "POST /v3/maintenance/status",
        "POST /v3/auth/status", "POST /etcdserverpb.KV/Put", "POST /etcdserverpb.KV/Range",
        "POST /etcdserverpb.KV/DeleteRange", "POST /etcdserverpb.Lease/LeaseGrant",
        "POST /etcdserverpb.Lease/LeaseRevoke", "POST /etcdserverpb.Cluster/MemberList",
        "POST /etcdserverpb.Maintenance/Status",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

SYNCTHING: Final = Application(
    name="syncthing",
    debian=("syncthing",),
    python=("requests",),
    routes=(
        "GET /rest/system/status", "GET /rest/system/version", "GET /rest/system/ping", "POST /rest/system/ping",
        "GET /rest/system/config", "GET /rest/config", "GET /rest/config/folders", "POST /rest/config/folders",
        "GET /rest/config/folders/{id}", "PATCH /rest/config/folders/{id}", "DELETE /rest/config/folders/{id}",
        "GET /rest/config/devices", "GET /rest/db/status", "GET /rest/db/browse", "POST /rest/db/scan",
        "GET /rest/stats/device", "GET /rest/stats/folder", "GET /rest/system/connections", "GET /rest/system/log",
        "GET /rest/svc/report", "GET /rest/noauth/health", "GET /rest/system/error",
    ),
    authentication={"*": "api_key_header", "GET /rest/noauth/health": "none"},
    findings=frozenset(("secrets_in_response", f"GET /rest/{path}") for path in ("config", "system/config")),
)  # fmt: skip

REGISTRY: Final = Application(
    name="registry",
    debian=("docker-registry",),
    python=("requests",),
    routes=(
        "GET /v2/", "GET /v2/_catalog", "GET /v2/{name:path}/tags/list", "POST /v2/{name:path}/blobs/uploads/",
        "PATCH /v2/{name:path}/blobs/uploads/{uuid}", "PUT /v2/{name:path}/blobs/uploads/{uuid}",
        "HEAD /v2/{name:path}/blobs/{digest}", "GET /v2/{name:path}/blobs/{digest}",
        "PUT /v2/{name:path}/manifests/{reference}", "GET /v2/{name:path}/manifests/{reference}",
        "HEAD /v2/{name:path}/manifests/{reference}", "DELETE /v2/{name:path}/manifests/{reference}",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

VICTORIA_METRICS: Final = Application(
    name="victoria-metrics",
    debian=("victoria-metrics",),
    python=("requests",),
    routes=(
        "POST /write", "POST /api/v1/import", "POST /api/v1/import/prometheus", "POST /api/v1/import/csv",
        "GET /internal/force_flush", "GET /api/v1/query", "POST /api/v1/query", "GET /api/v1/query_range",
        "GET /prometheus/api/v1/query", "GET /prometheus/api/v1/query_range", "GET /api/v1/labels",
        "GET /api/v1/label/{name}/values", "GET /api/v1/series", "GET /api/v1/status/tsdb", "GET /api/v1/export",
        "GET /federate", "GET /health", "GET /metrics", "GET /targets", "GET /flags", "GET /vmui/",
        "GET /api/v1/status/active_queries", "GET /-/reload", "POST /api/v1/admin/tsdb/delete_series",
        "GET /snapshot/create", "GET /snapshot/list", "GET /snapshot/delete",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

WEBHOOK: Final = Application(
    name="webhook",
    debian=("webhook",),
    python=("requests",),
    routes=("GET /", "GET /hooks/{id}", "POST /hooks/{id}"),
    findings=OPEN_CHANGES,
)

RCLONE: Final = Application(
    name="rclone",
    debian=("rclone",),
    python=("requests",),
    routes=tuple(f"POST /{command}" for command in (
        "core/version", "core/stats", "core/memstats", "rc/list", "rc/noop", "job/list", "job/status", "options/get",
        "config/create", "config/listremotes", "config/dump", "config/get", "config/delete", "operations/list",
        "operations/about", "operations/stat", "operations/mkdir", "operations/copyfile", "operations/purge",
        "sync/copy",
    )),
    findings=OPEN_CHANGES,
)  # fmt: skip

DEBIAN_PROGRAMS: Final = (
    PROMETHEUS,
    PUSHGATEWAY,
    CADDY,
    INFLUXDB,
    ETCD,
    SYNCTHING,
    REGISTRY,
    VICTORIA_METRICS,
    WEBHOOK,
    RCLONE,
)
