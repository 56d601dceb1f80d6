"""Names of client software that may leave the node: of marks in a head (sensor.protocols.marks) a keyed hash, and the
product where everybody knows it.

A product is whatever a client writes: a word of it may be a person's or a company's name. So only those of a public
list are told as a word (the agents of OpenTelemetry's and of HTTP libraries' own documentation); of all others and of
the order of the fields there is the hash alone, under the installation's key.
"""

from typing import Final

from sensor.keyed import KeyedHash
from sensor.protocols.marks import AGENT

# First products of User-Agent as the programs and libraries write them by default.
PRODUCTS: Final = frozenset(
    (
        "aiohttp", "alamofire", "apache-httpclient", "apachebench", "axios", "bruno", "cfnetwork", "curl", "dalvik",
        "dart", "deno", "elasticsearch", "envoy", "faraday", "ghz", "git", "go-http-client", "go-resty", "got",
        "grpc-c++", "grpc-dotnet", "grpc-go", "grpc-java-netty", "grpc-node", "grpc-node-js", "grpc-python",
        "guzzlehttp", "hey", "httpie", "insomnia", "jakarta", "java", "java-http-client", "k6", "ktor",
        "kube-probe", "lua-resty-http", "mozilla", "node", "node-fetch", "okhttp", "opera", "postmanruntime",
        "powershell", "prometheus", "python-httpx", "python-requests", "python-urllib", "reqwest", "rest-client",
        "restsharp", "ruby", "scrapy", "slackbot", "sqlmap", "swagger-codegen", "symfony", "undici", "vegeta",
        "vertx", "wget", "wrk",
    )
)  # fmt: skip
_NAMES_MAX: Final = 4_096  # Sequences of marks whose names are kept; dropped whole when full.
_HASH_BITS: Final = 32
_SEPARATOR: Final = b"\n"


class SoftwareNames:
    """Names under one installation key. Not thread-safe."""

    __slots__ = ("_hash", "_names")

    def __init__(self, keyed_hash: KeyedHash) -> None:
        self._hash = keyed_hash.compute
        self._names: dict[tuple[bytes, ...], str] = {}

    def name(self, marks: tuple[bytes, ...]) -> str:
        """`curl 3f9a2c11`, or the hash alone; empty where there are no marks, or nobody knows them. Cost: .1 us."""
        if not marks:
            return ""
        found = self._names.get(marks)
        if found is None:
            if len(self._names) >= _NAMES_MAX:
                self._names.clear()
            found = self._names[marks] = self._make(marks)
        return found

    def _make(self, marks: tuple[bytes, ...]) -> str:
        hashed = f"{self._hash(_SEPARATOR.join((b'software', *marks))) >> 64 - _HASH_BITS:08x}"
        agents = [mark.removeprefix(AGENT + b" ") for mark in marks if mark.startswith(AGENT)]
        product = agents[0].decode("latin-1").lower() if agents else ""
        return f"{product} {hashed}" if product in PRODUCTS else hashed
