"""Finds the owner of a cgroup by its path alone: a container, a Pod, a systemd unit, or nobody in particular. Pure.

Reads a path in the cgroup tree (v2, or a v1 hierarchy on hybrid hosts) and gives a `CgroupOwner`. One table has what
each runtime calls the cgroup of a container. Another has units that are too short-lived or too general to name a
service. Each row has its source.

A Pod's cgroup names the Pod by its uid, which is known before its containers are. On a plain host a unit comes before a
container: a container that has a unit of its own (podman quadlet) is named by that unit, which outlives it. Units of
the runtimes themselves (docker.service) name nothing that runs inside them.
"""

import enum
import re
from dataclasses import dataclass, replace


class OwnerKind(enum.Enum):
    """What a cgroup path says about its processes."""

    CONTAINER = "container"
    POD = "pod"  # A Pod's cgroup, in no container of it that the path names.
    UNIT = "unit"
    NONE = "none"  # The root, a slice, a login session: the process itself has to be asked.


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupOwner:
    """The owner of one cgroup. `name` is a full container id or a unit name; empty for NONE and POD."""

    kind: OwnerKind
    name: str = ""
    pod_uid: str = ""  # Of the Pod in which the container runs, as the kubelet knows it.
    user_id: int | None = None  # Of a container: who runs it without root.


NOBODY = CgroupOwner(kind=OwnerKind.NONE)

_ID = r"(?P<id>[0-9a-f]{64})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRule:
    """A kind of component of a cgroup's path: `component` matches one whole."""

    component: re.Pattern[str]
    source: str


# First match wins; the innermost matching component of a path is the container (kind and docker-in-docker nest them).
CONTAINER_PATTERNS: tuple[PathRule, ...] = tuple(
    PathRule(component=re.compile(component), source=source)
    for component, source in (
        (rf"docker-{_ID}\.scope", "moby daemon/oci_linux.go, systemd driver: <parent>:docker:<id>"),
        (rf"cri-containerd-{_ID}\.scope", "containerd CRI container_create_linux.go getCgroupsPath, systemd"),
        (rf"[^/]*:cri-containerd:{_ID}", "the same path under a runc that took it for cgroupfs"),
        (rf"nerdctl-{_ID}\.scope", "nerdctl pkg/cmd/container/run_cgroup_linux.go, systemd"),
        (rf"crio-{_ID}(\.scope)?", "cri-o internal/config/cgmgr (systemd_linux.go, cgroupfs_linux.go)"),
        (rf"libpod(-payload)?-{_ID}(\.scope)?", "podman libpod/container_internal_linux.go getOCICgroupPath"),
        (r"machine-(?P<id>[^/]+)\.scope", "systemd-machined machine_start_scope"),
        (r"systemd-nspawn@(?P<id>[^/]+)\.service", "systemd units/systemd-nspawn@.service.in"),
        (r"lxc\.payload\.(?P<id>[^/]+)", "lxc src/lxc/cgroups/cgfsng.c, DEFAULT_PAYLOAD_CGROUP_PREFIX"),
        (_ID, "cgroupfs drivers: /docker/<id>, /kubepods/<qos>/pod<uid>/<id>, /<containerd namespace>/<id>"),
        (r"(?P<id>[0-9a-f]{32}-[0-9]{5,20})", "Amazon ECS agent, task metadata v4: <task id>-<container number>"),
    )
)

# kubernetes pkg/kubelet/cm: a Pod's cgroup is `pod<uid>` (pod_container_manager_linux.go); the systemd driver makes a
# slice of it with all its parents' names in front and writes `-` as `_` (cgroup_manager_linux.go). The uid of a static
# Pod is a hash of its file.
_POD = re.compile(
    r"pod(?P<uid>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})"
    r"|([^/]+-)?pod(?P<escaped>[0-9a-f]{8}(_[0-9a-f]{4}){3}_[0-9a-f]{12}|[0-9a-f]{32})\.slice(:[^/]*)?"
)

# A unit whose processes are not the service: a container below it is named by itself, an own process by its executable.
_RUNTIMES = "docker containerd crio cri-o podman kubelet k3s k3s-agent rke2-server rke2-agent lxc lxd incus"
RUNTIME_UNITS: frozenset[str] = frozenset(f"{name}.service" for name in _RUNTIMES.split())


# Units that name no service, because their name is another at each start or they hold anything a person starts.
UNNAMING_UNITS: tuple[PathRule, ...] = tuple(
    PathRule(component=re.compile(component), source=source)
    for component, source in (
        (r"session-[^/]+\.scope", "systemd-logind: one a login"),
        (r"user@[0-9]+\.service", "the user's manager itself; its units are named below it"),
        (r"init\.scope", "systemd.special(7): the manager"),
        (r"run-[^/]+\.(scope|service)", "systemd-run(1): transient, numbered"),
        (r"app-[^/]+\.scope", "systemd.io/DESKTOP_ENVIRONMENTS: ends in a random number"),
        (r"(vte-spawn|tmux-spawn)-[^/]+\.scope", "terminals: one a window"),
        (r"(libpod|crio)-conmon-[^/]+\.scope", "conmon watches a container, it is not in it"),
    )
)

# systemd src/basic/cgroup-util.c, cg_path_get_unit: slices are skipped, the next component is the unit.
_SLICE = re.compile(r"[^/]+\.slice")
_UNIT = re.compile(r"[^/]+\.(service|scope|socket|mount|swap)")
# systemd src/login/logind-user.c: a user's slice, of which a rootless container's cgroup is a part.
_USER_SLICE = re.compile(r"user-(?P<uid>[0-9]{1,10})\.slice")
_USER_MANAGER = re.compile(r"user@[0-9]+\.service")
# systemd.socket(5), Accept=yes: one instance a connection, `name@N-local-remote` or `name@N-pid-uid`; the instance is
# no name.
_CONNECTION_INSTANCE = re.compile(r"(?P<name>[^/@]+@)[0-9]+-[0-9a-f.:\[\]]*[0-9][^/@]*\.service")
_DELETED = " (deleted)"


def own_path(path: str) -> CgroupOwner:
    """The owner of the cgroup at `path` (from the tree's root, `/a/b`).

    Never raises; 4-10 us, so callers cache by id.
    """
    # A reader in a cgroup namespace of its own sees what is above it as `/../..` (cgroup_namespaces(7)).
    components = _split(path)
    container, depth = _find_container(components)
    pod_uid = _find_pod(components)
    if pod_uid:  # Units above a Pod are the kubelet's or the runtime's.
        if container is None:
            return CgroupOwner(kind=OwnerKind.POD, pod_uid=pod_uid)
        return replace(container, pod_uid=pod_uid)
    unit = _find_unit(components[:depth])
    if unit and not (container and unit in RUNTIME_UNITS):
        return CgroupOwner(kind=OwnerKind.UNIT, name=unit)
    if container is None:
        return NOBODY
    return replace(container, user_id=_find_user(components[:depth]))


def find_outer_pod(path: str) -> str:
    """The uid of the outermost Pod of a path, which is the kubelet's word: what is below a Pod's cgroup may be named
    in the Pod. Empty where there is none."""
    return _find_pod(_split(path)[::-1])


def _split(path: str) -> list[str]:
    parts = path.removesuffix(_DELETED).split("/")
    return [part.removeprefix("_") for part in parts if part not in ("", "..")]


def _find_user(components: list[str]) -> int | None:
    """The user in whose slice a cgroup lies; None where it is in none, or in root's."""
    for component in components:
        match = _USER_SLICE.fullmatch(component)
        if match:
            return int(match["uid"]) or None
    return None


def _find_container(components: list[str]) -> tuple[CgroupOwner | None, int]:
    """The innermost container and the number of components above the outermost one (all, where there is none)."""
    found: CgroupOwner | None = None
    depth = len(components)
    for index, component in enumerate(components):
        for pattern in CONTAINER_PATTERNS:
            match = pattern.component.fullmatch(component)
            if match:
                found = CgroupOwner(kind=OwnerKind.CONTAINER, name=match["id"])
                depth = min(depth, index)
                break
    # `/lxc/NAME` (lxc before 4) has no pattern of its own: any name goes.
    if found is None and len(components) > 1 and components[0] == "lxc":
        return CgroupOwner(kind=OwnerKind.CONTAINER, name=components[1]), 0
    return found, depth


def _find_pod(components: list[str]) -> str:
    """The uid of the innermost Pod; empty where there is none."""
    for component in reversed(components):
        match = _POD.fullmatch(component)
        if match:
            return match["uid"] or match["escaped"].replace("_", "-")
    return ""


def _find_unit(components: list[str]) -> str:
    """The systemd unit of a path, as `cg_path_get_unit` and `cg_path_get_user_unit` find it; empty where none names a
    service.
    """
    for component in components:
        if _SLICE.fullmatch(component) or _USER_MANAGER.fullmatch(component):
            continue
        if not _UNIT.fullmatch(component) or any(rule.component.fullmatch(component) for rule in UNNAMING_UNITS):
            return ""
        instance = _CONNECTION_INSTANCE.fullmatch(component)
        return f"{instance['name']}.service" if instance else component
    return ""
