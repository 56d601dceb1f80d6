"""Heads as probes send them, and heads of others that look like them."""

import pytest

from sensor.describe.filter import RULES, ProbeKind, find_rule, is_private


def head(line: str, agent: str, name: str = "User-Agent") -> bytes:
    return f"{line} HTTP/1.1\r\nHost: 10.244.1.7:8080\r\n{name}: {agent}\r\nAccept: */*\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (head("GET /healthz", "kube-probe/1.31"), (ProbeKind.KUBELET, "/healthz")),
        (head("GET /ready?full=1", "kube-probe/1.31+", "user-agent"), (ProbeKind.KUBELET, "/ready")),
        (head("GET /metrics", "Prometheus/2.55.0"), (ProbeKind.SCRAPE, "/metrics")),
        (head("GET /actuator/prometheus", "vm_promscrape"), (ProbeKind.SCRAPE, "/actuator/prometheus")),
        (head("GET /federate?match[]=up", "Prometheus/3.1.0"), (ProbeKind.SCRAPE, "/federate")),
        (head("HEAD /", "ELB-HealthChecker/2.0"), (ProbeKind.HEALTH_CHECK, "/")),
        (head("GET /health", "Envoy/HC"), (ProbeKind.HEALTH_CHECK, "/health")),
        # Others.
        (head("GET /healthz", "curl/8.11"), None),
        (head("POST /healthz", "kube-probe/1.31"), None),
        (head("GET /api/v1/orders/17", "Prometheus/2.55.0"), None),
        (head("GET /metricsx", "Prometheus/2.55.0"), None),
        (head("GET /healthz", "x kube-probe/1.31"), None),
        (head("GET /healthz", "curl", "X-User-Agent: kube-probe/1.31\r\nUser-Agent"), None),
        (b"GET /kube-probe/ HTTP/1.1\r\nHost: a\r\n\r\n", None),
        (b"GET http://a/healthz HTTP/1.1\r\nUser-Agent: kube-probe/1.31\r\n\r\n", None),
        (b"", None),
    ],
)
def test_head(sent: bytes, expected: tuple[ProbeKind, str] | None) -> None:
    found = find_rule(sent)
    assert (found and (found[0].kind, found[1])) == expected


def test_every_rule_is_found_by_its_agent() -> None:
    for rule in RULES:
        found = find_rule(head("GET /metrics", rule.agent))
        assert found is not None and found[0] is rule


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.244.1.1", True),
        ("100.64.0.9", True),
        ("127.0.0.1", True),
        ("fd00::7", True),
        ("fe80::1", True),
        ("35.191.0.1", False),
        ("2a00::1", False),
        ("", False),
    ],
)
def test_private(address: str, expected: bool) -> None:
    assert is_private(address) is expected
