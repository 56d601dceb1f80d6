"""Kinds of several projects that lead to a Service from outside, as their documentation writes them."""

from typing import Any, Final

import pytest
import yaml

from collector.kubernetes.addresses import Target, Targets
from collector.kubernetes.exposure import find_facts
from collector.kubernetes.routes.traefik import ALTERNATIVES_MAX, EVERYTHING, Matcher, parse_rule
from collector.kubernetes.rows import read_facts
from tests.collector.kubernetes.manifests import make_namespace, make_pod, make_service, make_slice
from tests.collector.kubernetes.states import make_state

SERVED: Final = (
    make_namespace("shop", team="a"),
    make_pod("orders-1"),
    make_service(),
    make_slice("orders", {"orders-1": "10.1.0.5"}),
)
ROUTED: Final = ("host", "path", "path_type", "method", "is_tls", "is_rewritten")


def routes_of(text: str, *columns: str) -> list[Any]:
    """Facts of routes to shop/orders:8080 from YAML documents."""
    state = make_state(*SERVED, *(one for one in yaml.safe_load_all(text) if one))
    found = read_facts(find_facts(state, Targets(state)).get(Target("shop", "orders", 8080), "[]"))
    routed = [fact for fact in found if fact.host]
    names = columns or ROUTED
    return [tuple(getattr(fact, name) for name in names) for fact in routed]


OPENSHIFT: Final = """
apiVersion: route.openshift.io/v1
kind: Route
metadata: {name: frontend, namespace: shop}
spec:
  host: www.shop.example
  path: /api
  to: {kind: Service, name: orders, weight: 100}
  port: {targetPort: http}
  tls: {termination: edge, insecureEdgeTerminationPolicy: Redirect}
  wildcardPolicy: None
status:
  ingress:
    - host: www.shop.example
      routerName: default
      wildcardPolicy: None
      conditions: [{type: Admitted, status: "True"}]
"""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("", ""), [("www.shop.example", "/api", "Prefix", "", True, False)]),
        (('status: "True"', 'status: "False"'), []),
        (("targetPort: http", "targetPort: 8080"), [("www.shop.example", "/api", "Prefix", "", True, False)]),
        (("targetPort: http", "targetPort: 9090"), []),
        (("  port: {targetPort: http}\n", ""), [("www.shop.example", "/api", "Prefix", "", True, False)]),
        (("weight: 100", "weight: 0"), []),
        (("name: orders, weight: 100}", "name: users}\n  alternateBackends: [{kind: Service, name: orders}]"), 1),
        (("wildcardPolicy: None\n      cond", "wildcardPolicy: Subdomain\n      cond"), [("*.shop.example", "/api")]),
        (("termination: edge", "termination: passthrough"), [("www.shop.example", "/")]),
        (("namespace: shop}", "namespace: shop, annotations: {haproxy.router.openshift.io/rewrite-target: /}}"), 1),
    ],
)
def test_a_route_of_openshift(change: tuple[str, str], expected: Any) -> None:
    assert change[0] in OPENSHIFT
    found = routes_of(OPENSHIFT.replace(*change))
    if isinstance(expected, int):
        assert len(found) == expected
    else:
        assert [one[: len(other)] for one, other in zip(found, expected, strict=True)] == expected


def test_a_route_of_openshift_is_said_with_its_router() -> None:
    assert routes_of(OPENSHIFT, "kind", "source", "is_external", "note") == [
        ("openshift_route", "shop/frontend", True, "router default")
    ]
    # Without a status, as before any router looked at it.
    assert len(routes_of(OPENSHIFT.partition("status:")[0])) == 1


TRAEFIK: Final = """
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: web, namespace: shop}
spec:
  entryPoints: [websecure]
  routes:
    - kind: Rule
      match: RULE
      priority: 10
      middlewares: MIDDLEWARES
      services:
        - {kind: Service, name: orders, port: 80, passHostHeader: true}
  tls: {secretName: supersecret}
"""


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("Host(`shop.example`)", [("shop.example", "/", "Prefix", "")]),
        ("Host(`shop.example`) && PathPrefix(`/api`)", [("shop.example", "/api", "Prefix", "")]),
        (
            "(Host(`a.example`) || Host(`b.example`)) && (Path(`/x`) || Method(`POST`))",
            [
                ("a.example", "/", "Prefix", "POST"),
                ("a.example", "/x", "Exact", ""),
                ("b.example", "/", "Prefix", "POST"),
                ("b.example", "/x", "Exact", ""),
            ],
        ),
        ("Host(`a.example`, `b.example`)", [("a.example", "/", "Prefix", ""), ("b.example", "/", "Prefix", "")]),
        ("PathRegexp(`^/v[0-9]+/`)", [("*", "^/v[0-9]+/", "Pattern", "")]),
        ("Host(`a.example`) && !Path(`/internal`)", [("a.example", "/", "Prefix", "")]),
        ("Host(`a.example`) && Header(`X-Team`, `a`)", [("a.example", "/", "Prefix", "")]),
        ("HostRegexp(`^.+\\\\.example$`)", [("*", "/", "Prefix", "")]),
        ("Host(`a.example`", [("*", "/", "Prefix", "")]),
        ("", [("*", "/", "Prefix", "")]),
    ],
)
def test_a_rule_of_traefik(rule: str, expected: list[tuple[str, ...]]) -> None:
    text = TRAEFIK.replace("RULE", f"'{rule}'").replace("MIDDLEWARES", "[]")
    assert sorted(routes_of(text, "host", "path", "path_type", "method")) == expected


def test_a_rule_has_bounds() -> None:
    assert parse_rule("Host(`a`)") == [(Matcher("Host", ("a",)),)]
    wide = " && ".join(["(Host(`a`) || Host(`b`))"] * 12)
    deep = "(" * 500 + "Host(`a`)" + ")" * 500
    assert parse_rule(wide) == EVERYTHING and parse_rule(deep) == EVERYTHING and parse_rule("!" * 900) == EVERYTHING
    assert len(parse_rule(" || ".join(["Host(`a`)"] * ALTERNATIVES_MAX))) == ALTERNATIVES_MAX


def test_traefik_services_are_followed_and_middlewares_may_rewrite() -> None:
    text = TRAEFIK.replace("RULE", "Host(`shop.example`)").replace("MIDDLEWARES", "[{name: strip}]")
    assert routes_of(text, "is_rewritten", "is_tls", "note") == [(True, True, "entry points websecure")]
    service = """
apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata: {name: split, namespace: shop}
spec:
  weighted:
    services: [{name: orders, port: http, weight: 3}, {name: split, kind: TraefikService, weight: 1}]
"""
    behind = text.replace("kind: Service, name: orders, port: 80", "kind: TraefikService, name: split")
    assert routes_of(behind, "host") == [] and routes_of(f"{behind}---{service}", "host") == [("shop.example",)]
    assert routes_of(f"{behind}---{service.replace('weight: 3', 'weight: 0')}") == []


def test_tcp_of_traefik_is_by_server_name() -> None:
    text = """
apiVersion: traefik.io/v1alpha1
kind: IngressRouteTCP
metadata: {name: tcp, namespace: shop}
spec:
  entryPoints: [websecure]
  routes:
    - match: HostSNI(`orders.example`)
      services: [{name: orders, port: 80}]
  tls: {passthrough: true}
"""
    assert routes_of(text) == [("orders.example", "/", "Prefix", "", True, False)]


ISTIO_GATEWAY: Final = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-ingress}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 443, name: https, protocol: HTTPS}
      tls: {mode: SIMPLE, credentialName: shop}
      hosts: ["HOSTS"]
"""
VIRTUAL_SERVICE: Final = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [istio-ingress/edge]
  http:
    - name: read
      match:
        - uri: {prefix: /orders}
          method: {exact: GET}
          headers: {end-user: {exact: jason}}
        - uri: {exact: /health}
      route:
        - destination: {host: DESTINATION, subset: v1, port: {number: 80}}
"""


@pytest.mark.parametrize(
    ("hosts", "destination", "expected"),
    [
        ("*", "orders", ["shop.example", "shop.example"]),
        ("shop/*.example", "orders.shop.svc.cluster.local", ["shop.example", "shop.example"]),
        ("./*", "orders", []),  # Of the Gateway's own namespace only.
        ("other/*", "orders", []),
        ("*.test", "orders", []),
        ("*", "orders.shop", ["shop.example", "shop.example"]),
        ("*", "orders.other.svc.cluster.local", []),
        ("*", "api.partner.example", []),
    ],
)
def test_a_virtual_service_leads_through_its_gateway(hosts: str, destination: str, expected: list[str]) -> None:
    service = VIRTUAL_SERVICE.replace("DESTINATION", destination)
    found = routes_of(f"{ISTIO_GATEWAY.replace('HOSTS', hosts)}---{service}")
    assert [one[0] for one in found] == expected
    if found:
        assert found == [
            ("shop.example", "/health", "Exact", "", True, False),
            ("shop.example", "/orders", "Prefix", "GET", True, False),
        ]


def test_a_virtual_service_of_the_mesh_is_inside() -> None:
    gateway = ISTIO_GATEWAY.replace("HOSTS", "*")
    service = VIRTUAL_SERVICE.replace("DESTINATION", "orders")
    assert routes_of(service) == []
    assert routes_of(f"{gateway}---{service.replace('  gateways: [istio-ingress/edge]', '')}") == []
    assert routes_of(f"{gateway}---{service.replace('[istio-ingress/edge]', '[mesh]')}") == []
    some = service.replace("- uri: {exact: /health}", "- {uri: {exact: /health}, gateways: [mesh]}")
    assert routes_of(f"{gateway}---{some}", "path") == [("/orders",)]


def test_a_virtual_service_may_delegate() -> None:
    root = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: istio-ingress}
spec:
  hosts: [shop.example]
  gateways: [edge]
  http:
    - match: [{uri: {prefix: /orders}}]
      delegate: {name: orders, namespace: shop}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  http:
    - match: [{uri: {prefix: /orders/v2}}]
      rewrite: {uri: /v2}
      route: [{destination: {host: orders}}]
    - route: [{destination: {host: orders}}]
"""
    assert routes_of(f"{ISTIO_GATEWAY.replace('HOSTS', '*')}---{root}", "source", "path", "is_rewritten") == [
        ("istio-ingress/root", "/orders", False),
        ("istio-ingress/root", "/orders/v2", True),
    ]


def test_tls_of_a_virtual_service_is_passed_through() -> None:
    gateway = ISTIO_GATEWAY.replace("HOSTS", "*.example").replace("mode: SIMPLE", "mode: PASSTHROUGH")
    service = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tls, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [istio-ingress/edge]
  tls:
    - match: [{port: 443, sniHosts: [orders.example, other.test]}]
      route: [{destination: {host: orders}}]
"""
    assert routes_of(f"{gateway}---{service}") == [("orders.example", "/", "Prefix", "", True, False)]


GATEWAY: Final = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  gatewayClassName: example
  listeners:
    - {name: web, port: 443, protocol: HTTPS, hostname: "*.example", allowedRoutes: {namespaces: {from: All}}}
    - {name: tls, port: 8443, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {namespaces: {from: All}}}
status: {addresses: [{type: IPAddress, value: 203.0.113.7}]}
---
"""


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("", [("/", "Prefix")]),
        ("matches: [{method: {service: shop.v1.Orders, method: List}}]", [("/shop.v1.Orders/List", "Exact")]),
        ("matches: [{method: {service: shop.v1.Orders}}]", [("/shop.v1.Orders", "Prefix")]),
        ("matches: [{method: {type: RegularExpression, service: shop.*}}]", [("/shop.*", "Pattern")]),
        ("matches: [{headers: [{name: a, value: b}]}]", [("/", "Prefix")]),
    ],
)
def test_a_grpc_route_is_by_method(match: str, expected: list[tuple[str, str]]) -> None:
    route = f"""
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: grpc, namespace: shop}}
spec:
  parentRefs: [{{name: edge, namespace: infra}}]
  hostnames: [grpc.example, grpc.test]
  rules:
    - backendRefs: [{{name: orders, port: 80}}]
      {match}
"""
    assert routes_of(GATEWAY + route, "path", "path_type") == expected
    assert routes_of(GATEWAY + route, "host", "addresses", "is_tls") == [("grpc.example", ("203.0.113.7",), True)]
    kinds = "namespaces: {from: All}, kinds: [{kind: HTTPRoute}]"
    assert routes_of(GATEWAY.replace("namespaces: {from: All}", kinds) + route) == []


def test_a_tls_route_is_by_server_name() -> None:
    route = """
apiVersion: gateway.networking.k8s.io/v1alpha3
kind: TLSRoute
metadata: {name: tls, namespace: shop}
spec:
  parentRefs: [{name: edge, namespace: infra, sectionName: SECTION}]
  hostnames: [orders.test]
  rules: [{backendRefs: [{name: orders, port: 80}]}]
"""
    assert routes_of(GATEWAY + route.replace("SECTION", "tls"), "kind", *ROUTED) == [
        ("tls_route", "orders.test", "/", "Prefix", "", True, False)
    ]
    assert routes_of(GATEWAY + route.replace("SECTION", "web")) == []
