"""Owners of cgroup paths: one row a runtime and driver, and the rules of precedence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.enrich.cgroup import CONTAINER_PATTERNS, NOBODY, CgroupOwner, OwnerKind, own_path

ID = "0123456789abcdef" * 4
OTHER_ID = "fedcba9876543210" * 4
UID = "1b2c3d4e-0000-1111-2222-333344445555"
POD = f"pod{UID}"
SLICE = f"pod{UID.replace('-', '_')}.slice"  # As the systemd driver writes it.
USER = "/user.slice/user-1000.slice/user@1000.service"
STATIC = "0123456789abcdef" * 2


def container(container_id: str, pod_uid: str = "", user_id: int | None = None) -> CgroupOwner:
    return CgroupOwner(kind=OwnerKind.CONTAINER, name=container_id, pod_uid=pod_uid, user_id=user_id)


def pod(uid: str = UID) -> CgroupOwner:
    return CgroupOwner(kind=OwnerKind.POD, pod_uid=uid)


def unit(name: str) -> CgroupOwner:
    return CgroupOwner(kind=OwnerKind.UNIT, name=name)


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        # Containers, cgroupfs driver.
        (f"/docker/{ID}", container(ID)),
        (f"/kubepods/burstable/{POD}/{ID}", container(ID, UID)),
        (f"/kubepods/besteffort/{POD}/crio-{ID}", container(ID, UID)),
        (f"/libpod_parent/libpod-{ID}", container(ID)),
        (f"/default/{ID}", container(ID)),
        (f"/ecs/b1946ac92492d2347c6235b4d2611184/{ID}", container(ID)),
        (
            "/ecs/b1946ac92492d2347c6235b4d2611184-1234567890",
            container("b1946ac92492d2347c6235b4d2611184-1234567890"),
        ),
        ("/lxc/web", container("web")),
        ("/lxc.payload.web/system.slice/nginx.service", container("web")),
        # Containers, systemd driver.
        (f"/system.slice/docker-{ID}.scope", container(ID)),
        (f"/system.slice/nerdctl-{ID}.scope", container(ID)),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-{SLICE}/cri-containerd-{ID}.scope",
            container(ID, UID),
        ),
        (f"/kubepods.slice/kubepods-{SLICE}/crio-{ID}.scope/container", container(ID, UID)),
        (f"/machine.slice/libpod-{ID}.scope/container", container(ID)),
        # Of users without root: podman's own scope, docker's, podman's cgroupfs driver in a session, root's.
        (f"{USER}/user.slice/libpod-{ID}.scope/container", container(ID, user_id=1000)),
        (f"{USER}/user.slice/docker-{ID}.scope", container(ID, user_id=1000)),
        (f"{USER}/app.slice/docker.service/docker/{ID}", container(ID, user_id=1000)),
        (f"/user.slice/user-1000.slice/session-3.scope/libpod-{ID}", container(ID, user_id=1000)),
        (f"{USER}/app.slice/web.service/libpod-payload-{ID}", unit("web.service")),
        (f"/user.slice/user-0.slice/session-1.scope/libpod_parent/libpod-{ID}", container(ID)),
        ("/machine.slice/machine-web.scope/payload/system.slice/nginx.service", container("web")),
        # Nested: the innermost container, and systemd inside a container is not the host's.
        (f"/docker/{ID}/kubelet/kubepods/burstable/{POD}/{OTHER_ID}", container(OTHER_ID, UID)),
        (f"/system.slice/docker-{ID}.scope/system.slice/nginx.service", container(ID)),
        # The runtime's own unit names nothing that runs in it.
        (
            f"/system.slice/containerd.service/kubepods-burstable-{SLICE}:cri-containerd:{ID}",
            container(ID, UID),
        ),
        # A unit that runs one container (podman quadlet) outlives it.
        (f"/system.slice/web.service/libpod-payload-{ID}", unit("web.service")),
        # Units.
        ("/system.slice/nginx.service", unit("nginx.service")),
        ("/../../system.slice/nginx.service", unit("nginx.service")),
        ("/nginx.service", unit("nginx.service")),
        ("/system.slice/system-postgresql.slice/postgresql@16-main.service", unit("postgresql@16-main.service")),
        ("/system.slice/cups.socket", unit("cups.socket")),
        ("/system.slice/delegated.service/payload.service", unit("delegated.service")),
        ("/system.slice/_cpu.service", unit("cpu.service")),
        ("/system.slice/nginx.service (deleted)", unit("nginx.service")),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service", unit("syncthing.service")),
        ("/system.slice/system-echo.slice/echo@7-10.0.0.1:80-10.0.0.9:41234.service", unit("echo@.service")),
        ("/system.slice/system-echo.slice/echo@12-4711-1000.service", unit("echo@.service")),
        # Pods: of a sandbox or a process that is in none of their containers, static ones, in kind's node container, in
        # minikube's, under k3s, with docker in a Pod.
        (f"/kubepods/{POD}", pod()),
        (f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-{SLICE}", pod()),
        (f"/kubepods/burstable/pod{STATIC}/{ID}", container(ID, STATIC)),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice", pod(STATIC)),
        (
            f"/system.slice/docker-{OTHER_ID}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice"
            f"/kubelet-kubepods-burstable-{SLICE}/cri-containerd-{ID}.scope",
            container(ID, UID),
        ),
        (f"/docker/{OTHER_ID}/kubelet/kubepods/{POD}/{ID}", container(ID, UID)),
        (f"/system.slice/k3s.service/kubepods/burstable/{POD}/{ID}", container(ID, UID)),
        (f"/kubepods/{POD}/{ID}/docker/{OTHER_ID}", container(OTHER_ID, UID)),
        (f"/kubepods.slice/kubepods-{SLICE}/docker-{ID}.scope", container(ID, UID)),
        (f"/../../kubepods-burstable-{SLICE}/cri-containerd-{ID}.scope", container(ID, UID)),
        (f"/podman/pod{UID[:-1]}", NOBODY),
        # Nobody in particular.
        ("/", NOBODY),
        ("", NOBODY),
        ("/system.slice", NOBODY),
        ("/init.scope", NOBODY),
        ("/user.slice/user-1000.slice/session-3.scope", NOBODY),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", NOBODY),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-foo-4711.scope", NOBODY),
        ("/system.slice/run-r0a1b2c3d4e5f.service", NOBODY),
        (f"/machine.slice/libpod-conmon-{ID}.scope", NOBODY),
        ("/some/cgroup/of/a/person", NOBODY),
        (f"/docker/{ID[:-1]}", NOBODY),
    ],
)
def test_path_has_owner(path: str, owner: CgroupOwner) -> None:
    assert own_path(path) == owner


def test_every_container_pattern_cites_its_source() -> None:
    assert all(pattern.source for pattern in CONTAINER_PATTERNS)


@given(st.text(alphabet=st.sampled_from("/abc0123.-_:@slicervopx "), max_size=200))
def test_never_raises_and_names_are_part_of_the_path(path: str) -> None:
    owner = own_path(path)
    assert (owner.name == "") == (owner.kind is OwnerKind.NONE)
    assert "/" not in owner.name
