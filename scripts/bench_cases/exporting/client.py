"""Calls an application with the client that openapi-python-client made of a document: `client.py REQUEST.json`.

It runs in the environment that scripts/bench_cases/exports.py installs. The request has `document`, `package` (the
directory of the generated client), `url`, `user` and `key`. All else comes from the document: names of carriers,
schemes, paths, parameters and bodies. Prints a JSON list of `{operation, expected, status, without}`: the statuses
that the document has, the one that came, and the one that came without credentials.
"""

import base64
import importlib
import inspect
import json
import sys
import typing
from pathlib import Path
from typing import Any


def open_client(package: Any, url: str, scheme: dict[str, Any] | None, user: str, key: str) -> Any:
    """A client of the generated package that sends the key as a scheme of the document says."""
    if scheme is None:
        return package.Client(base_url=url)
    if scheme["type"] == "http":
        token = base64.b64encode(f"{user}:{key}".encode()).decode() if scheme["scheme"] == "basic" else key
        return package.AuthenticatedClient(base_url=url, token=token, prefix=scheme["scheme"].capitalize())
    match scheme["in"]:
        case "header":
            prefix = scheme.get("x-apidae-scheme", "")
            return package.AuthenticatedClient(base_url=url, token=key, prefix=prefix, auth_header_name=scheme["name"])
        case "cookie":
            return package.Client(base_url=url, cookies={scheme["name"]: key})
    return package.Client(base_url=url, httpx_args={"params": {scheme["name"]: key}})


def make_example(schema: dict[str, Any]) -> Any:
    """A value by type."""
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return {name: make_example(one) for name, one in schema.get("properties", {}).items()}
        case "array":
            return [make_example(schema.get("items", {}))]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
    return "blue"


def call(package: Any, operation: dict[str, Any], client: Any) -> int:
    """The status of one call of an operation, its arguments by the document."""
    module = importlib.import_module(f"{package.__name__}.api.default.{operation['operationId']}")
    arguments: dict[str, Any] = {}
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            arguments[parameter["name"]] = "7"
        elif parameter.get("required"):
            arguments[parameter["name"].replace("-", "_")] = make_example(parameter["schema"])
    content = operation.get("requestBody", {}).get("content", {})
    for described in content.values():
        hint = typing.get_type_hints(module.sync_detailed)["body"]
        kinds = [one for one in (hint, *typing.get_args(hint)) if inspect.isclass(one) and hasattr(one, "from_dict")]
        arguments["body"] = kinds[0].from_dict(make_example(described["schema"]))
    return int(module.sync_detailed(client=client, **arguments).status_code)


def main() -> None:
    """Prints what came of each operation."""
    request = json.loads(Path(sys.argv[1]).read_text())
    document, directory = request["document"], Path(request["package"])
    sys.path.insert(0, str(directory.parent))
    package = importlib.import_module(directory.name)
    schemes = document.get("components", {}).get("securitySchemes", {})
    found = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            required = next(iter(operation.get("security", ())), {})
            scheme = schemes[next(iter(required))] if required else None
            statuses = [
                call(package, operation, open_client(package, request["url"], one, request["user"], request["key"]))
                for one in (scheme, None)
            ]
            found.append(
                {
                    "operation": f"{method.upper()} {path}",
                    "expected": [int(code) for code in operation["responses"] if code.startswith("2")],
                    "status": statuses[0],
                    "without": statuses[1],
                    "is_secured": bool(required) and {} not in operation["security"],
                }
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
