"""What the current work may see: some clusters and namespaces, or everything.

It is found by context, as the budget is (collector/core/budget.py). A request sets it with its principal. Both stores
narrow what they read by it (collector/storage/tables/narrowing.py and collector/storage/state/tables/rules.py), so no
question of a request reads past it. Work of the collector itself sees everything.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a principal may see. A namespace is NAMESPACE, in any cluster, or CLUSTER/NAMESPACE. Empty means all.

    What has no namespace, as a program on a plain host, is seen only where `namespaces` is empty."""

    clusters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()

    @property
    def is_all(self) -> bool:
        """Whether nothing is hidden."""
        return not self.clusters and not self.namespaces

    @property
    def plain_namespaces(self) -> tuple[str, ...]:
        """Those that are seen in each cluster."""
        return tuple(one for one in self.namespaces if "/" not in one)

    @property
    def cluster_namespaces(self) -> tuple[tuple[str, str], ...]:
        """Those of one cluster, as (cluster, namespace). A name of a cluster may hold a slash, a namespace may not."""
        return tuple(
            (cluster, name) for one in self.namespaces for cluster, slash, name in [one.rpartition("/")] if slash
        )

    @property
    def is_by_namespace(self) -> bool:
        """Whether a namespace is seen in each cluster or in none."""
        return not self.clusters and not self.cluster_namespaces

    def admits(self, cluster: str, namespace: str) -> bool:
        """Whether something in this namespace of this cluster may be seen. Both lists must admit it."""
        if self.clusters and cluster not in self.clusters:
            return False
        if not self.namespaces:
            return True
        return namespace in self.plain_namespaces or (cluster, namespace) in self.cluster_namespaces

    def word(self) -> str:
        """In words: `the namespace shop`."""
        parts = [f"the cluster {one}" for one in self.clusters] + [f"the namespace {one}" for one in self.namespaces]
        return ", ".join(parts) or "everything"


EVERYTHING = Scope()
_scope: ContextVar[Scope] = ContextVar("scope", default=EVERYTHING)


def find_scope() -> Scope:
    """What the caller may see."""
    return _scope.get()


def set_scope(scope: Scope) -> None:
    """What the current context may see."""
    _scope.set(scope)


@contextmanager
def use_scope(scope: Scope) -> Iterator[None]:
    """See this within it. EVERYTHING is for what many requests share, as a cache: never for what one is answered."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)
