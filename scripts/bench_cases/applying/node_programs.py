"""Applications from npm. Routes are those of their documentation."""

from typing import Final

from scripts.bench_cases.applying.application import OPEN_CHANGES, Application

_TABLES: Final = ("posts", "comments", "albums", "todos")

JSON_SERVER: Final = Application(
    name="json-server",
    node=("json-server@0.17",),
    python=("requests",),
    routes=(
        "GET /", "GET /db", "GET /posts/{id}/comments",
        *(f"{method} /{table}" for table in _TABLES for method in ("GET", "POST")),
        *(f"{method} /{table}/{{id}}" for table in _TABLES for method in ("GET", "PUT", "PATCH", "DELETE")),
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

TIDDLYWIKI: Final = Application(
    name="tiddlywiki",
    node=("tiddlywiki",),
    python=("requests",),
    routes=(
        "GET /", "GET /status", "GET /recipes/default/tiddlers.json", "GET /recipes/default/tiddlers/{title}",
        "PUT /recipes/default/tiddlers/{title}", "DELETE /bags/default/tiddlers/{title}", "GET /files/{path:path}",
        "GET /{title}",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

DYNALITE: Final = Application(
    name="dynalite",
    node=("dynalite",),
    python=("boto3",),
    routes=(
        "POST /",
    ),
    authentication={"*": "aws_sigv4"},
)  # fmt: skip

S3RVER: Final = Application(
    name="s3rver",
    node=("s3rver",),
    python=("boto3<1.36",),
    routes=(
        "GET /", "PUT /{bucket}", "GET /{bucket}", "DELETE /{bucket}", "HEAD /{bucket}", "PUT /{bucket}/{key:path}",
        "GET /{bucket}/{key:path}", "HEAD /{bucket}/{key:path}", "DELETE /{bucket}/{key:path}",
    ),
    authentication={"*": "aws_sigv4"},
)  # fmt: skip

PRISM: Final = Application(
    name="prism",
    node=("@stoplight/prism-cli",),
    python=("requests",),
    routes=(
        "GET /ping", "GET /orders", "POST /orders", "GET /orders/{orderId}", "PUT /orders/{orderId}",
        "DELETE /orders/{orderId}", "GET /orders/{orderId}/items", "GET /stores/{store}/stock/{sku}",
        "PUT /stores/{store}/stock/{sku}", "GET /reports/{year}/{month}",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

POUCHDB: Final = Application(
    name="pouchdb",
    node=("pouchdb-server",),
    python=("requests",),
    routes=(
        "GET /", "GET /_all_dbs", "GET /_uuids",
        "PUT /{db}", "GET /{db}", "DELETE /{db}", "POST /{db}", "GET /{db}/_all_docs",
        "POST /{db}/_bulk_docs", "GET /{db}/_changes", "POST /{db}/_find",
        "GET /{db}/{doc}", "PUT /{db}/{doc}", "DELETE /{db}/{doc}",
        "GET /{db}/_local/{doc}", "PUT /{db}/_local/{doc}", "POST /{db}/_revs_diff",
        "GET /_session", "POST /{db}/_index",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

MAILDEV: Final = Application(
    name="maildev",
    node=("maildev@2",),
    python=("requests",),
    routes=(
        "GET /", "GET /email", "GET /email/{id}", "DELETE /email/{id}", "GET /email/{id}/html",
        "GET /email/{id}/source", "GET /email/{id}/download", "DELETE /email/all", "GET /config", "GET /healthz",
        "PATCH /email/read-all", "GET /email/{id}/attachment/{filename}",
    ),
    findings=OPEN_CHANGES
    | {("personal_data_without_authentication", f"GET {path}") for path in ("/email", "/email/{id}")},
)  # fmt: skip

AZURITE: Final = Application(
    name="azurite",
    node=("azurite",),
    python=("azure-storage-blob",),
    routes=(
        "GET /{account}/", "GET /{account}/{container}", "PUT /{account}/{container}",
        "DELETE /{account}/{container}", "HEAD /{account}/{container}", "GET /{account}/{container}/{blob:path}",
        "PUT /{account}/{container}/{blob:path}", "HEAD /{account}/{container}/{blob:path}",
        "DELETE /{account}/{container}/{blob:path}",
    ),
    authentication={"*": "hmac_signature"},
)  # fmt: skip

NODE_RED: Final = Application(
    name="node-red",
    node=("node-red",),
    python=("requests", "websocket-client"),
    routes=(
        "GET /", "GET /settings", "GET /settings/user", "GET /flows", "POST /flows", "GET /flows/state", "GET /icons",
        "GET /theme", "GET /nodes", "GET /nodes/{module}", "GET /nodes/{module}/{set}", "PUT /nodes/{module}/{set}",
        "GET /context/global", "GET /context/flow/{id}", "GET /locales/{namespace}", "GET /comms", "POST /flow",
        "GET /flow/{id}", "PUT /flow/{id}", "DELETE /flow/{id}",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

MOUNTEBANK: Final = Application(
    name="mountebank",
    node=("mountebank",),
    python=("requests",),
    routes=(
        "GET /", "GET /imposters", "POST /imposters", "PUT /imposters", "DELETE /imposters", "GET /imposters/{id}",
        "DELETE /imposters/{id}", "POST /imposters/{id}/stubs", "PUT /imposters/{id}/stubs",
        "PUT /imposters/{id}/stubs/{index}", "DELETE /imposters/{id}/stubs/{index}",
        "DELETE /imposters/{id}/savedRequests", "DELETE /imposters/{id}/savedProxyResponses", "GET /config",
        "GET /logs",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

NODE_PROGRAMS: Final = (
    JSON_SERVER, TIDDLYWIKI, DYNALITE, S3RVER, PRISM, POUCHDB, MAILDEV, AZURITE, NODE_RED, MOUNTEBANK,
)  # fmt: skip
