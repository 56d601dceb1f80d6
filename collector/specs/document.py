"""Reads an OpenAPI document (2.0, 3.0, 3.1; JSON or YAML) as operations: text in, a `Spec` out. Pure.

References are followed within the document only. Malformed parts are skipped, so that one wrong operation does not hide
the others. A text that is not an OpenAPI document is refused in one sentence.

Source: OpenAPI Specification 2.0, 3.0.4, 3.1.1.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from collector.core.budget import check_budget

TEXT_BYTES_MAX: Final = 4 << 20
NODES_MAX: Final = 300_000  # Of YAML: some 3.8 MB of text, and 85 MB of memory while it is read.
OPERATIONS_MAX: Final = 10_000
REFERENCES_MAX: Final = 16  # In a row.
SERVERS_MAX: Final = 32
HOSTS_MAX: Final = 100  # Of one server, by the values of its variables.
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
_VERSION: Final = re.compile(r"3\.[012](?:\.\d+)?\Z")
_VARIABLE: Final = re.compile(r"\{([^{}]+)\}")
_PORT: Final = re.compile(r":\d*\Z")
_HOST: Final = re.compile(r"([^/]*//)([^/]*)")
Json = dict[str, Any]


class SpecError(ValueError):
    """The text is no OpenAPI document; the message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecParameter:
    """A parameter: `place` is path, query, header, cookie."""

    place: str
    name: str
    is_required: bool
    schema: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecOperation:
    """One operation. `responses`: by code, `2XX` or `default`, schemas by media type; so `bodies` of requests.
    `requires_authentication`: None where nothing is said."""

    method: str
    path: str  # Without base path.
    operation_id: str
    is_deprecated: bool
    requires_authentication: bool | None
    parameters: tuple[SpecParameter, ...]
    bodies: Mapping[str, Json]
    responses: Mapping[str, Mapping[str, Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A document. `authorities` are those of its servers, in lower case and with `{}` for a variable, empty where they
    are relative; `base_paths` begin with / and do not end with it, one is empty where there is none."""

    title: str
    version: str
    authorities: frozenset[str]
    base_paths: tuple[str, ...]
    operations: tuple[SpecOperation, ...]
    root: Json

    @property
    def hosts(self) -> frozenset[str]:
        """The authorities without port."""
        return frozenset(_PORT.sub("", authority).strip("[]") for authority in self.authorities)

    def resolve(self, value: Any) -> Any:
        """What a reference leads to; the value itself where it is none; {} where it leads nowhere."""
        return resolve(self.root, value)


def read_spec(text: str) -> Spec:
    """Raises SpecError."""
    root = _parse(text)
    is_old = str(root.get("swagger", "")) == "2.0"
    if not is_old and not _VERSION.match(str(root.get("openapi", ""))):
        raise SpecError(
            f"The document says openapi {root.get('openapi')!r} and swagger {root.get('swagger')!r}; "
            "send OpenAPI 2.0, 3.0 or 3.1."
        )
    paths = root.get("paths", {})
    if not isinstance(paths, dict):
        raise SpecError("The document's paths are no object; it describes no operation.")
    authorities, base_paths = _read_old_servers(root) if is_old else _read_servers(root)
    info = root.get("info")
    named = info if isinstance(info, dict) else {}
    return Spec(
        title=str(named.get("title", ""))[:200],
        version=str(named.get("version", ""))[:64],
        authorities=authorities,
        base_paths=base_paths,
        operations=tuple(_read_operations(root, paths, is_old)),
        root=root,
    )


def resolve(root: Json, value: Any) -> Any:
    """See Spec.resolve."""
    for _ in range(REFERENCES_MAX):
        if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
            return value
        target: Any = root
        reference = value["$ref"]
        if not reference.startswith("#/"):
            return {}
        for step in reference[2:].split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            target = target.get(step) if isinstance(target, dict) else None
        value = target if target is not None else {}
    return {}


def _parse(text: str) -> Json:
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise SpecError(f"The document has {len(text.encode())} bytes; the limit is {TEXT_BYTES_MAX}.")
    try:
        root = json.loads(text) if text.lstrip()[:1] == "{" else yaml.load(text, Loader=_Loader)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"The document is neither JSON nor YAML ({str(error).splitlines()[0][:200]}).") from None
    if not isinstance(root, dict):
        raise SpecError("The document is no object; send an OpenAPI document.")
    return root


class _Loader(yaml.SafeLoader):
    """Without dates: `2024-01-01` in a description stays text. With bounds: an alias counts as all that it repeats."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._node_count = 0  # As if every alias were written out.
        self._sizes: dict[int, int] = {}  # Of nodes that an alias may repeat, by their identity.

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node, with all that is in it."""
        check_budget()
        before = self._node_count
        event: yaml.NodeEvent = self.peek_event()  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        assert node is not None
        if isinstance(event, yaml.AliasEvent):
            size = self._sizes.get(id(node))
            if size is None:
                raise SpecError(f"The document has an alias within itself (*{event.anchor}); write it out.")
            self._node_count += size
        else:
            self._node_count += 1
            if event.anchor:
                self._sizes[id(node)] = self._node_count - before
        if self._node_count > NODES_MAX:
            raise SpecError(f"The document has more than {NODES_MAX} values, aliases written out; send JSON.")
        node.start_mark = node.end_mark = None  # Most of the memory that a node takes.
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _read_servers(root: Json) -> tuple[frozenset[str], tuple[str, ...]]:
    servers = root.get("servers")
    urls = [
        url
        for server in (servers if isinstance(servers, list) else [])[:SERVERS_MAX]
        if isinstance(server, dict) and "url" in server
        for url in _fill(str(server["url"]), _object(server.get("variables")))
    ]
    return _split(urls or ["/"])


def _fill(url: str, variables: Json) -> Iterator[str]:
    """Variables of a server by their defaults; those of its host by each value that they may have, and by `{}`, as
    hosts are written that differ by a tenant's name."""
    described = {name: _object(variables.get(name)) for name in _VARIABLE.findall(url)}
    defaults = {name: str(one.get("default", "")) for name, one in described.items()}
    yield _put(url, defaults)
    host = _HOST.match(url)
    names = list(dict.fromkeys(_VARIABLE.findall(host[2]))) if host is not None else []
    if host is None or not names:
        return
    found = [described[name].get("enum") for name in names]
    options = [[str(value) for value in one] if isinstance(one, list) else [] for one in found]
    for values in itertools.islice(itertools.product(*options), HOSTS_MAX):
        yield _put(url, {**defaults, **dict(zip(names, values, strict=True))})
    yield _put(host[1], defaults) + _VARIABLE.sub("{}", host[2]) + _put(url[host.end() :], defaults)


def _put(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values[match[1]], text)


def _read_old_servers(root: Json) -> tuple[frozenset[str], tuple[str, ...]]:
    host, base = str(root.get("host") or ""), str(root.get("basePath") or "/")
    return _split([f"http://{host}{base}" if host else base])


def _split(urls: list[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    authorities: set[str] = set()
    paths: dict[str, None] = {}
    for url in urls:
        try:
            parts = urlsplit(url.removeprefix(":"))  # Of `{scheme}://host` without a default.
        except ValueError:
            continue
        authority = parts.netloc.rpartition("@")[2].lower()
        if _PORT.sub("", authority) not in ("", "{}"):  # Which says nothing.
            authorities.add(authority)
        path = "/" + parts.path.strip("/")
        paths["" if path == "/" else path] = None
    return frozenset(authorities), tuple(paths) or ("",)


def _read_operations(root: Json, paths: Json, is_old: bool) -> Iterator[SpecOperation]:
    count = 0
    for path, item in paths.items():
        item = resolve(root, item)
        if not isinstance(item, dict) or not str(path).startswith("/"):
            continue
        for method in _METHODS:
            operation = item.get(method)
            if not isinstance(operation, dict):
                continue
            check_budget()
            if count >= OPERATIONS_MAX:
                raise SpecError(f"The document has more than {OPERATIONS_MAX} operations; split it.")
            count += 1
            yield _read_operation(root, str(path), method, item, operation, is_old)


def _read_operation(root: Json, path: str, method: str, item: Json, operation: Json, is_old: bool) -> SpecOperation:
    shared, own = item.get("parameters"), operation.get("parameters")
    described = [*(shared if isinstance(shared, list) else []), *(own if isinstance(own, list) else [])]
    parameters: dict[tuple[str, str], SpecParameter] = {}
    bodies: dict[str, Json] = {}
    form: Json = {"type": "object", "properties": {}}
    for one in (resolve(root, one) for one in described):
        if not isinstance(one, dict):
            continue
        place, name = str(one.get("in", "")), str(one.get("name", ""))
        if is_old and place == "body":
            bodies |= {kind: _object(one.get("schema")) for kind in _list_kinds(root, operation, "consumes")}
        elif is_old and place == "formData":
            form["properties"][name] = {key: one[key] for key in ("type", "format", "enum", "items") if key in one}
        else:
            schema = one if is_old else _object(one.get("schema"))
            parameters[place, name] = SpecParameter(
                place=place, name=name, is_required=bool(one.get("required")), schema=schema
            )
    if form["properties"]:
        bodies |= {"application/x-www-form-urlencoded": form, "multipart/form-data": form}
    if not is_old:
        bodies = _read_content(resolve(root, operation.get("requestBody")))
    return SpecOperation(
        method=method.upper(),
        path=path,
        operation_id=str(operation.get("operationId", ""))[:200],
        is_deprecated=operation.get("deprecated") is True,
        requires_authentication=_read_security(operation.get("security", root.get("security"))),
        parameters=tuple(parameters.values()),
        bodies=bodies,
        responses=_read_responses(root, operation, is_old),
    )


def _read_responses(root: Json, operation: Json, is_old: bool) -> dict[str, Mapping[str, Json]]:
    found: dict[str, Mapping[str, Json]] = {}
    for code, response in _object(operation.get("responses")).items():
        response = resolve(root, response)
        if is_old:
            schema = _object(_object(response).get("schema"))
            found[str(code)] = dict.fromkeys(_list_kinds(root, operation, "produces"), schema) if schema else {}
        else:
            found[str(code)] = _read_content(response)
    return found


def _read_content(value: Any) -> dict[str, Json]:
    content = _object(_object(value).get("content"))
    return {str(kind).partition(";")[0].lower(): _object(_object(one).get("schema")) for kind, one in content.items()}


def _list_kinds(root: Json, operation: Json, key: str) -> list[str]:
    kinds = operation.get(key, root.get(key))
    return [str(kind).partition(";")[0].lower() for kind in kinds] if isinstance(kinds, list) and kinds else ["*/*"]


def _read_security(value: Any) -> bool | None:
    """Whether every call needs credentials: not where an empty alternative is among them."""
    if not isinstance(value, list):
        return None
    return bool(value) and all(isinstance(one, dict) and one for one in value)


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
