"""Applications from PyPI. Routes are those of their own route tables and documentation."""

from typing import Final

from scripts.bench_cases.applying.application import OPEN_CHANGES, Application

HTTPBIN: Final = Application(
    name="httpbin",
    python=("httpbin", "gunicorn", "requests", "setuptools<81"),
    routes=(
        "GET /", "GET /get", "POST /post", "PUT /put", "PATCH /patch", "DELETE /delete", "GET /headers", "GET /ip",
        "GET /uuid", "GET /user-agent", "GET /status/{codes}", "GET /delay/{delay}", "GET /bytes/{n}",
        "GET /anything", "GET /anything/{anything:path}", "GET /base64/{value}", "GET /cookies",
        "GET /cookies/set/{name}/{value}", "GET /basic-auth/{user}/{passwd}", "GET /bearer", "GET /redirect/{n}",
        "GET /etag/{etag}", "GET /json", "GET /xml", "GET /html", "GET /gzip", "GET /deflate", "GET /image/{format}",
        "GET /links/{n}/{offset}", "GET /range/{numbytes}", "GET /stream/{n}", "GET /cache", "GET /cache/{value}",
        "GET /forms/post", "GET /response-headers", "GET /relative-redirect/{n}",
    ),
    authentication={"GET /basic-auth/{user}/{passwd}": "basic", "GET /bearer": "bearer|bearer_opaque"},
    findings=OPEN_CHANGES,
)  # fmt: skip

PYPISERVER: Final = Application(
    name="pypiserver",
    python=("pypiserver", "requests", "passlib"),
    routes=(
        "GET /", "POST /", "GET /simple/", "GET /simple/{project}/", "GET /packages/{filename:path}",
        "GET /{project}/json", "GET /health", "GET /packages/",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

MOTO: Final = Application(
    name="moto",
    python=("moto[server,s3,dynamodb,sqs,iam]", "boto3"),
    routes=(
        "POST /", "PUT /{bucket}", "PUT /{bucket}/{key:path}", "GET /{bucket}/{key:path}",
        "HEAD /{bucket}/{key:path}", "DELETE /{bucket}/{key:path}", "GET /{bucket}", "GET /",
    ),
    authentication={"*": "aws_sigv4"},
)  # fmt: skip

RADICALE: Final = Application(
    name="radicale",
    python=("radicale", "caldav", "requests"),
    routes=(
        "GET /.web/", "PROPFIND /", "OPTIONS /", "PROPFIND /{user}/", "MKCALENDAR /{user}/{calendar}/",
        "PROPFIND /{user}/{calendar}/", "REPORT /{user}/{calendar}/", "PROPPATCH /{user}/{calendar}/",
        "PUT /{user}/{calendar}/{event}", "GET /{user}/{calendar}/{event}", "DELETE /{user}/{calendar}/{event}",
        "PROPFIND /{user}/{calendar}/{event}", "MKCOL /{user}/{calendar}/",
    ),
    authentication={"*": "basic"},
)  # fmt: skip

WSGIDAV: Final = Application(
    name="wsgidav",
    python=("wsgidav", "cheroot", "requests"),
    routes=(
        "GET /", "PROPFIND /", "OPTIONS /",
        "GET /{path:path}", "HEAD /{path:path}", "PUT /{path:path}", "DELETE /{path:path}",
        "MKCOL /{path:path}", "PROPFIND /{path:path}", "COPY /{path:path}", "MOVE /{path:path}",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

KINTO: Final = Application(
    name="kinto",
    python=("kinto", "kinto-http", "setuptools<81"),
    routes=(
        "GET /v1/", "GET /v1/buckets", "POST /v1/batch", "PUT /v1/buckets/{id}", "GET /v1/buckets/{id}",
        "GET /v1/buckets/{id}/collections", "PUT /v1/buckets/{id}/collections/{id}",
        "GET /v1/buckets/{id}/collections/{id}", "POST /v1/buckets/{id}/collections/{id}/records",
        "GET /v1/buckets/{id}/collections/{id}/records", "PUT /v1/buckets/{id}/collections/{id}/records/{id}",
        "GET /v1/buckets/{id}/collections/{id}/records/{id}", "PATCH /v1/buckets/{id}/collections/{id}/records/{id}",
        "DELETE /v1/buckets/{id}/collections/{id}/records/{id}", "PUT /v1/accounts/{id}",
        "PUT /v1/buckets/{id}/groups/{id}", "GET /v1/buckets/{id}/groups", "DELETE /v1/buckets/{id}",
    ),
    environment={"KINTO_BUCKET_CREATE_PRINCIPALS": "system.Authenticated"},
    findings=frozenset({("secrets_in_response", "PUT /v1/accounts/{id}")}),  # It answers with the hash.
    authentication={"*": "basic", "GET /v1/": "none|basic", "PUT /v1/accounts/{id}": "none"},
)  # fmt: skip

SQLITE_WEB: Final = Application(
    name="sqlite_web",
    python=("sqlite-web", "requests"),
    routes=(
        "GET /", "GET /query/", "POST /query/", "GET /{table}/", "GET /{table}/content/", "GET /{table}/query/",
        "POST /{table}/query/", "GET /{table}/insert/", "POST /{table}/insert/", "GET /{table}/update/{pk}/",
        "POST /{table}/update/{pk}/", "POST /{table}/delete/{pk}/", "GET /{table}/export/", "GET /static/{path:path}",
        "GET /{table}/structure/",
    ),
    authentication={"*": "none|cookie_session"},  # Flask's session, which holds no login.
)  # fmt: skip

ISSO: Final = Application(
    name="isso",
    python=("isso", "gunicorn", "requests", "setuptools<81"),
    routes=(
        "GET /", "POST /new", "GET /id/{id}", "PUT /id/{id}", "DELETE /id/{id}", "POST /id/{id}/like",
        "POST /id/{id}/dislike", "POST /count", "GET /latest", "GET /config", "POST /preview", "GET /info",
        "GET /feed",
    ),
    # A client that has written sends its cookie with every call.
    authentication={
        "PUT /id/{id}": "cookie_session", "DELETE /id/{id}": "cookie_session", "*": "none|cookie_session",
    },
)  # fmt: skip

DATASETTE: Final = Application(
    name="datasette",
    python=("datasette", "requests", "setuptools<81"),
    routes=(
        "GET /", "GET /-/versions.json", "GET /-/plugins.json", "GET /-/databases.json", "GET /-/settings.json",
        "GET /-/static/{path:path}", "GET /{database}.json", "GET /{database}", "GET /{database}/{table}.json",
        "GET /{database}/{table}", "GET /{database}/{table}/{pk}.json", "GET /{database}/{table}/{pk}",
    ),
)  # fmt: skip

SUPERVISOR: Final = Application(
    name="supervisor",
    python=("supervisor", "setuptools<81"),
    routes=(
        "POST /RPC2", "GET /", "GET /index.html", "GET /stylesheets/{name}", "GET /tail.html", "GET /logtail/{name}",
    ),
    authentication={"*": "basic"},
)  # fmt: skip

GRADIO: Final = Application(
    name="gradio",
    python=("gradio", "gradio_client"),
    routes=(
        "GET /", "GET /config", "GET /gradio_api/info", "POST /gradio_api/call/{api_name}",
        "GET /gradio_api/call/{api_name}/{event_id}", "POST /gradio_api/queue/join", "GET /gradio_api/queue/data",
        "GET /gradio_api/heartbeat/{session_hash}", "GET /gradio_api/startup-events", "HEAD /",
        "GET /gradio_api/app_id", "GET /theme.css", "POST /gradio_api/run/{api_name}",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

JUPYTER: Final = Application(
    name="jupyter",
    python=("jupyter-server", "ipykernel", "requests", "websocket-client"),
    routes=(
        "GET /api", "GET /api/status", "GET /api/me", "GET /api/kernelspecs", "GET /api/terminals",
        "POST /api/contents/{path:path}/checkpoints", "GET /api/contents/{path:path}/checkpoints", "GET /api/contents",
        "GET /api/contents/{path:path}", "PUT /api/contents/{path:path}", "PATCH /api/contents/{path:path}",
        "DELETE /api/contents/{path:path}", "GET /files/{path:path}", "GET /api/sessions", "POST /api/sessions",
        "GET /api/sessions/{session}", "DELETE /api/sessions/{session}", "GET /api/kernels",
        "GET /api/kernels/{kernel_id}", "GET /api/kernels/{kernel_id}/channels",
        "POST /api/kernels/{kernel_id}/interrupt",
    ),
    authentication={"*": "api_key_header|bearer_opaque|other"},  # `Authorization: token ..`
)  # fmt: skip

DEVPI: Final = Application(
    name="devpi",
    python=("devpi-server", "requests", "setuptools<81"),
    routes=(
        "GET /", "GET /+api", "GET /+status", "POST /+login", "GET /{user}", "PUT /{user}", "PATCH /{user}",
        "GET /{user}/{index}", "PUT /{user}/{index}", "POST /{user}/{index}/", "DELETE /{user}/{index}",
        "GET /{user}/{index}/+api", "GET /{user}/{index}/+simple/", "GET /{user}/{index}/+simple/{project}/",
        "GET /{user}/{index}/+f/{relpath:path}", "GET /{user}/{index}/{project}",
        "GET /{user}/{index}/{project}/{version}",
    ),
    authentication={
        "*": "basic|api_key_header",
        **dict.fromkeys(("GET /", "GET /+api", "GET /+status", "POST /+login", "PUT /{user}"), "none"),
        **dict.fromkeys(("GET /{user}/{index}/+f/{relpath:path}", "GET /{user}/{index}/+simple/{project}/"), "none"),
        "GET /{user}/{index}/+simple/": "none",
    },
)  # fmt: skip

FAVA: Final = Application(
    name="fava",
    python=("fava", "requests"),
    routes=(
        "GET /", "GET /static/{filename:path}", "GET /{ledger}/account/{name}/", "PUT /{ledger}/api/add_entries",
        *(f"GET /{{ledger}}/api/{name}" for name in (
            "changed", "errors", "balance_sheet", "income_statement", "trial_balance", "ledger_data", "payee_accounts",
            "query",
        )),
        "GET /{ledger}/{report_name}/",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

GLANCES: Final = Application(
    name="glances",
    python=("glances[web]", "requests"),
    routes=(
        "GET /status", "GET /api/4/status", "GET /api/4/all", "GET /api/4/pluginslist",
        "GET /api/4/{plugin}/history/{nb}", "GET /api/4/{plugin}/history", "GET /api/4/{plugin}/limits",
        "GET /api/4/{plugin}/views", "GET /api/4/{plugin}/{item}", "GET /api/4/{plugin}",
    ),
)  # fmt: skip

PYGEOAPI: Final = Application(
    name="pygeoapi",
    python=("pygeoapi", "gunicorn", "requests", "setuptools<81"),
    routes=(
        "GET /", "GET /conformance", "GET /openapi", "GET /collections", "GET /processes", "GET /jobs",
        "GET /collections/{id}", "GET /collections/{id}/queryables", "GET /collections/{id}/schema",
        "GET /collections/{id}/items", "GET /collections/{id}/items/{feature}", "GET /processes/{id}",
        "POST /processes/{id}/execution", "GET /jobs/{id}", "GET /jobs/{id}/results", "DELETE /jobs/{id}",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

SCRAPYD: Final = Application(
    name="scrapyd",
    python=("scrapyd", "requests", "setuptools<81"),
    routes=(
        "GET /", "GET /jobs", "GET /daemonstatus.json", "GET /listprojects.json", "GET /listversions.json",
        "GET /listspiders.json", "GET /listjobs.json", "GET /status.json", "POST /schedule.json",
        "POST /cancel.json", "POST /addversion.json", "POST /delversion.json", "POST /delproject.json",
        "GET /logs/{path:path}", "GET /logs/",
    ),
    findings=OPEN_CHANGES,
)  # fmt: skip

PYTHON_PROGRAMS: Final = (
    HTTPBIN, PYPISERVER, MOTO, RADICALE, WSGIDAV, KINTO, SQLITE_WEB, ISSO, DATASETTE, SUPERVISOR, GRADIO,
    JUPYTER, DEVPI, FAVA, GLANCES, PYGEOAPI, SCRAPYD,
)  # fmt: skip
