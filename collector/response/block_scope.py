"""Which blocks somebody may make, see and end who sees a part of the installation: those that hold within it. Pure."""

from collections.abc import Sequence

from collector.core.scope import Scope
from collector.receiver.policy import NO_CLUSTER
from collector.response.block import BlockError, parse_service

Places = tuple[tuple[str, ...], tuple[str, ...]]  # Services and clusters, as blocks name them.


def is_within(services: Sequence[str], clusters: Sequence[str], scope: Scope) -> bool:
    """Whether a block of these services in these clusters holds nowhere but in a scope. Raises BlockError for a service
    that is written wrong."""
    named = ["" if one == NO_CLUSTER else one for one in clusters]
    if scope.clusters and not (named and set(named) <= set(scope.clusters)):
        return False
    if not scope.namespaces:
        return True
    return bool(services) and all(_is_admitted(parse_service(one).namespace, named, scope) for one in services)


def _is_admitted(namespace: str, clusters: Sequence[str], scope: Scope) -> bool:
    """In each of the clusters; none: in all that there are."""
    if namespace in scope.plain_namespaces:
        return True
    return bool(clusters) and all((one, namespace) in scope.cluster_namespaces for one in clusters)


def limit_places(services: tuple[str, ...], clusters: tuple[str, ...], scope: Scope) -> Places:
    """The services and clusters of a block within a scope: those that were asked for, or all of the scope. Raises
    BlockError where they are not of it."""
    if scope.is_all:
        return services, clusters
    pairs = scope.cluster_namespaces
    if not clusters:
        clusters = scope.clusters or (() if scope.plain_namespaces else tuple(sorted({one for one, _ in pairs})))
    if not services:
        names = dict.fromkeys((*scope.plain_namespaces, *(name for _, name in pairs)))
        services = tuple(f"{name}/" for name in names if _is_admitted(name, clusters, scope))
    if not is_within(services, clusters, scope):
        raise BlockError(
            f"You see only {scope.word()}, and a block holds at services of it alone; name their namespace, as in "
            "shop/cart or shop/, and their cluster."
        )
    return services, clusters
