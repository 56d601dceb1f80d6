"""The cgroups of a miniature cluster, named as kubelets and runtimes name them.

Sources: kubernetes pkg/kubelet/cm (cgroup_manager_linux.go, pod_container_manager_linux.go) for both drivers;
containerd's CRI (getCgroupsPath) and CRI-O (internal/config/cgmgr) for the container's own.
"""

import time
import uuid
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.e2e.conftest import find_cgroup_root


class Runtime(StrEnum):
    """Cgroup driver and runtime of a node."""

    SYSTEMD_CONTAINERD = "systemd, containerd"
    CGROUPFS_CONTAINERD = "cgroupfs, containerd"
    SYSTEMD_CRIO = "systemd, CRI-O"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container's cgroup and its id as its Pod's status has it."""

    path: Path
    status_id: str


class CgroupTree:
    """A subtree of its own for each node; `close` removes it."""

    def __init__(self, name: str) -> None:
        root = find_cgroup_root()
        assert root is not None
        self._root = Path(root) / name
        self._root.mkdir()

    def node_path(self, node: int) -> Path:
        """The root of a node's tree."""
        path = self._root / f"node{node}"
        path.mkdir(exist_ok=True)
        return path

    def add_container(self, node: int, runtime: Runtime, pod_uid: str) -> Container:
        """One more container of a Pod, of quality of service Burstable."""
        container_id = uuid.uuid4().hex + uuid.uuid4().hex
        scheme, scope = ("cri-o", "crio") if runtime is Runtime.SYSTEMD_CRIO else ("containerd", "cri-containerd")
        if runtime is Runtime.CGROUPFS_CONTAINERD:
            parts = ["kubepods", "burstable", f"pod{pod_uid}", container_id]
        else:
            pod = pod_uid.replace("-", "_")
            parts = [
                "kubepods.slice",
                "kubepods-burstable.slice",
                f"kubepods-burstable-pod{pod}.slice",
                f"{scope}-{container_id}.scope",
            ]
        path = self.node_path(node).joinpath(*parts)
        path.mkdir(parents=True)
        return Container(path=path, status_id=f"{scheme}://{container_id}")

    def remove_container(self, container: Container) -> None:
        """With its Pod's, where it was the last; its processes have ended."""
        _remove(container.path)
        if not any(child.is_dir() for child in container.path.parent.iterdir()):
            _remove(container.path.parent)

    def close(self) -> None:
        """Remove the tree, whose processes have ended."""
        for path in sorted((one for one in self._root.rglob("*") if one.is_dir()), key=lambda one: -len(one.parts)):
            _remove(path)
        _remove(self._root)


def _remove(path: Path) -> None:
    """A cgroup is busy for a moment after its last process."""
    for _ in range(100):
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
