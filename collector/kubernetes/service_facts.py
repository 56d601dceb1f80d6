"""What Services, Pods and NetworkPolicies say of how a workload's ports are reached. Pure."""

import ipaddress
from collections.abc import Iterable, Iterator

from collector.kubernetes.fact import Fact, FactKind
from collector.kubernetes.objects import NetworkPolicyObject, PolicyIngressRule, ServiceObject
from collector.kubernetes.pod import Pod
from collector.kubernetes.selectors import selects
from collector.kubernetes.state import ClusterState
from collector.kubernetes.targets import Target, Targets

# Any port of a workload.
ALL_PORTS = 0
# (annotation, value in lower case) by which a load balancer is asked for on the private network only.
_INTERNAL_BALANCERS = frozenset(
    (
        # AWS: cloud provider; AWS Load Balancer Controller.
        ("service.beta.kubernetes.io/aws-load-balancer-internal", "true"),
        ("service.beta.kubernetes.io/aws-load-balancer-scheme", "internal"),
        # Google Kubernetes Engine: now and before 1.17.
        ("networking.gke.io/load-balancer-type", "internal"),
        ("cloud.google.com/load-balancer-type", "internal"),
        # Azure; OpenStack (cloud-provider-openstack); Oracle; IBM.
        ("service.beta.kubernetes.io/azure-load-balancer-internal", "true"),
        ("service.beta.kubernetes.io/openstack-internal-load-balancer", "true"),
        ("service.beta.kubernetes.io/oci-load-balancer-internal", "true"),
        ("service.kubernetes.io/ibm-load-balancer-cloud-provider-ip-type", "private"),
    )
)
_PRIVATE_NOTE = "on the private network only"


def list_service_facts(state: ClusterState, targets: Targets) -> Iterator[tuple[Target, Fact]]:
    """Of each Service: its type, and the ports and addresses by which it is reached from outside."""
    for service in state.services.values():
        for port in service.spec.ports or ():
            for target in targets.find(service, port):
                for fact in _read_service(service, port.port, port.node_port or 0):
                    yield target, fact


def _read_service(service: ServiceObject, port: int, node_port: int) -> Iterator[Fact]:
    spec, source = service.spec, "/".join(service.key)
    addresses = tuple(address for address in spec.cluster_ips or (spec.cluster_ip,) if address not in ("", "None"))
    note = "" if addresses else "headless"
    yield Fact(kind=FactKind.CLUSTER_IP, source=source, port=port, addresses=addresses, note=note)
    if spec.external_ips:
        yield Fact(
            kind=FactKind.EXTERNAL_IP, source=source, port=port, addresses=tuple(spec.external_ips), is_external=True
        )
    if spec.type == "LoadBalancer":
        balancer = service.status.load_balancer
        given = tuple(one.ip or one.hostname for one in (balancer.ingress or ())) if balancer else ()
        is_internal = _is_internal_balancer(service, given)
        yield Fact(
            kind=FactKind.LOAD_BALANCER,
            source=source,
            port=port,
            addresses=given,
            is_external=not is_internal,
            note=_PRIVATE_NOTE if is_internal else "" if given else "no address yet",
        )
    elif spec.type == "NodePort" and node_port:
        yield Fact(
            kind=FactKind.NODE_PORT, source=source, port=node_port, is_external=True, note="at every node's address"
        )


def _is_internal_balancer(service: ServiceObject, addresses: Iterable[str]) -> bool:
    annotations = service.metadata.annotations or {}
    is_asked = any(annotations.get(name, "").lower() == value for name, value in _INTERNAL_BALANCERS)
    # The public DNS names of internal AWS balancers begin so.
    return is_asked or any(address.startswith("internal-") for address in addresses)


def list_pod_facts(pods: Iterable[Pod]) -> Iterator[tuple[Target, Fact]]:
    """Ports of nodes that lead to Pods, and Pods on their node's network."""
    for pod in pods:
        source = f"{pod.namespace}/{pod.workload.name}"
        if pod.is_host_network:
            yield (
                Target(pod.namespace, pod.workload.name, ALL_PORTS),
                Fact(kind=FactKind.HOST_NETWORK, source=source, is_external=True, note="at its nodes' addresses"),
            )
            continue
        for port in pod.ports:
            if port.host_port:
                fact = Fact(
                    kind=FactKind.HOST_PORT,
                    source=source,
                    port=port.host_port,
                    is_external=True,
                    note="at its nodes' addresses",
                )
                yield Target(pod.namespace, pod.workload.name, port.number), fact


def list_policy_facts(state: ClusterState) -> Iterator[tuple[Target, Fact]]:
    """NetworkPolicies that select a workload's Pods and speak of who comes in."""
    by_namespace: dict[str, list[NetworkPolicyObject]] = {}
    for policy in state.policies.values():
        # Without types it is about what comes in (API reference, policyTypes).
        if "Ingress" in (policy.spec.policy_types or ("Ingress",)):
            by_namespace.setdefault(policy.metadata.namespace, []).append(policy)
    seen: set[tuple[str, str, tuple[tuple[str, str], ...]]] = set()
    for pod in state.pods.values():
        template = (pod.namespace, pod.workload.name, pod.labels)
        if pod.is_host_network or pod.namespace not in by_namespace or template in seen:
            continue  # What a policy does to Pods on their node's network is undefined.
        seen.add(template)
        labels = dict(pod.labels)
        for policy in by_namespace[pod.namespace]:
            if selects(policy.spec.pod_selector, labels):
                fact = Fact(kind=FactKind.NETWORK_POLICY, source="/".join(policy.key), note=_tell_policy(policy))
                yield Target(pod.namespace, pod.workload.name, ALL_PORTS), fact


def _tell_policy(policy: NetworkPolicyObject) -> str:
    rules = policy.spec.ingress or ()
    if not rules:
        return "lets nobody in"
    return "lets everybody in" if any(map(_lets_everybody, rules)) else "lets some in"


def _lets_everybody(rule: PolicyIngressRule) -> bool:
    """From anywhere, if perhaps to some ports only."""
    blocks = [peer.ip_block.cidr for peer in rule.from_ or () if peer.ip_block]
    return not rule.from_ or any(_is_everything(block) for block in blocks)


def _is_everything(cidr: str) -> bool:
    try:
        return ipaddress.ip_network(cidr, strict=False).prefixlen == 0
    except ValueError:
        return False
