"""One node of a real cluster: containerd, kubelet and kube-proxy in namespaces of their own, so that several nodes fit
on a machine.

A node has its network (`tests.cluster.network`), its mounts (`/run`, `/var/lib` and `/var/log` are its own), its host
name, and a cgroup of every hierarchy as the root of all that it sees. Not its own: the kernel, its settings, process
ids. The hierarchies may be of version 1, beside an empty one of version 2 (hybrid), as on the machines of CI.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from scripts.live.program import Program
from tests.cluster.control_plane import POD_RANGE, ControlPlane, Supervised, find_binary, need_binary
from tests.cluster.network import Interface
from tests.waiting import wait_until

NODE_PROGRAMS: Final = ("containerd", "ctr", "runc", "kubelet", "kube-proxy", "nft", "iptables", "nsenter", "unshare")
CNI_DIRECTORY: Final = Path("/usr/lib/cni")
CNI_PLUGINS: Final = ("bridge", "host-local", "loopback", "portmap")
DNS_SERVICE: Final = "10.96.0.10"
DOMAIN: Final = "cluster.local"
PAUSE_IMAGE: Final = "localhost/pause:1"
_CGROUPS: Final = Path("/sys/fs/cgroup")
_SOCKET: Final = "/run/containerd/containerd.sock"
# What a kubelet sets for the whole machine.
_SYSCTLS: Final = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_READY_SECONDS: Final = 180.0
_KUBELET_AWAY_SECONDS: Final = 5.0

CONTAINERD = """\
version = 2
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
"""


def why_no_node() -> str:
    """Why no real node can be made here; empty where it can."""
    for name in NODE_PROGRAMS:
        if find_binary(name) is None:
            return f"needs {name} on the PATH or in APIDAE_KUBERNETES_BIN"
    for name in CNI_PLUGINS:
        if not (CNI_DIRECTORY / name).exists():
            return f"needs {CNI_DIRECTORY / name} (containernetworking-plugins)"
    return ""


@contextlib.contextmanager
def keep_sysctls() -> Iterator[None]:
    """What kubelets change of the machine's own settings is put back."""
    before = {path: path.read_text() for path in (Path("/proc/sys") / name for name in _SYSCTLS) if path.exists()}
    try:
        yield
    finally:
        for path, value in before.items():
            if path.read_text() != value:
                path.write_text(value)


class RealNode:
    """Runs from the constructor on, with the images of `archives`; everything ends with the stack."""

    def __init__(
        self,
        number: int,
        *,
        directory: Path,
        interface: Interface,
        cgroup: str,
        control: ControlPlane,
        archives: list[Path],
        stack: ExitStack,
    ) -> None:
        self.name, self.address = f"node-{number}", interface.address_4
        self._number, self._directory, self._interface = number, directory, interface
        self._control, self._cgroup, self._stack = control, f"{cgroup}-{number}", stack
        directory.mkdir()
        for part in ("lib", "log", "cni"):
            (directory / part).mkdir()
        self._hierarchies = self._make_cgroups()
        stack.callback(self._close)
        self._holder = self._start_holder()
        self._write_configuration()
        self._containerd = self._start_containerd()
        for archive in archives:
            self.run("ctr", "--address", _SOCKET, "--namespace", "k8s.io", "images", "import", str(archive))
        self.kubelet = self._start_kubelet()
        proxy = f"--config={directory}/proxy.json"
        self._start("kube-proxy", need_binary("kube-proxy"), proxy)
        wait_until(self._is_ready, f"{self.name} is not ready: see {directory}", seconds=_READY_SECONDS)

    def _is_ready(self) -> bool:
        text = self._control.kubectl("get", "node", self.name, "-o", "json", is_checked=False)
        conditions = json.loads(text)["status"].get("conditions", ()) if text else ()
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _make_cgroups(self) -> list[str]:
        """Names of the hierarchies as directories; each has a cgroup of this node."""
        controllers = {line.split()[0] for line in Path("/proc/cgroups").read_text().splitlines()[1:]}
        names = [
            path.name
            for path in _CGROUPS.iterdir()
            if (path / "cgroup.procs").exists() and {*path.name.split(",")} <= {*controllers, "systemd", "unified"}
        ]
        for name in names:
            own = _CGROUPS / name / self._cgroup
            own.mkdir()
            for setting in ("cpuset.cpus", "cpuset.mems"):  # Empty in a new one, which then takes no process.
                if (own / setting).exists():
                    (own / setting).write_text((own.parent / setting).read_text())
        return names

    def _join_cgroups(self, service: str) -> str:
        """Shell: this process is one of the node's, as a service of systemd where there is version 2."""
        lines = []
        for name in self._hierarchies:
            own = _CGROUPS / name / self._cgroup
            if name == "unified" and service:
                own = own / "system.slice" / f"{service}.service"
                lines.append(f"mkdir -p {own}")
            lines.append(f"echo $$ > {own}/cgroup.procs")
        return "; ".join(lines)

    def _start_holder(self) -> subprocess.Popen[bytes]:
        """The process by which others enter the node's namespaces."""
        mounts = [
            "mount --make-rprivate /",
            f"mount --bind {self._directory}/lib /var/lib",
            f"mount --bind {self._directory}/log /var/log",
            "mount -t tmpfs tmpfs /run",
            "umount -R /sys/fs/cgroup",
            "mount -t tmpfs tmpfs /sys/fs/cgroup",
        ]
        for name in self._hierarchies:
            where = f"/sys/fs/cgroup/{name}"
            options = "none,name=systemd" if name == "systemd" else name
            kind = "-t cgroup2 cgroup2" if name == "unified" else f"-t cgroup -o {options} cgroup"
            mounts.append(f"mkdir {where}; mount {kind} {where}")
        mounts += [
            "mount --make-rshared /",
            f"hostname {self.name}",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            "modprobe -q br_netfilter || true",
            "echo ready; exec sleep infinity",
        ]
        inside = "; ".join(mounts)
        script = f"set -e; {self._join_cgroups('')}; exec unshare --mount --cgroup --uts --ipc sh -ec '{inside}'"
        command = ["nsenter", f"--net={self._interface.path}", "sh", "-c", script]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        with holder.stdout as output:
            assert output.readline() == b"ready\n", f"{self.name} has no namespaces"
        return holder

    def _enter(self, service: str) -> list[str]:
        """What a command is put behind to run as a program of this node."""
        namespaces = ["--mount", "--net", "--uts", "--ipc", "--cgroup"]
        script = f'{self._join_cgroups(service)}; exec "$@"'
        return ["sh", "-ec", script, "sh", "nsenter", "--target", str(self._holder.pid), *namespaces, "--"]

    def run(self, *command: str) -> str:
        """To its end; its output."""
        path = need_binary(command[0]) if find_binary(command[0]) else command[0]
        done = subprocess.run(
            [*self._enter(""), path, *command[1:]], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"{self.name}: {' '.join(command)}: {done.stderr}"
        return done.stdout

    def _start(self, service: str, *command: str) -> Program:
        program = Program(service, [*self._enter(service), *command], self._directory / f"{service}.log")
        self._stack.callback(program.stop)
        return program

    def _write_configuration(self) -> None:
        authority = self._control.authority
        network = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": f"10.1.{self._number}.0/24"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
        kubelet: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority.path)},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": DOMAIN,
            "resolvConf": "",
            "oomScoreAdj": 0,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "localStorageCapacityIsolation": False,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "maxPods": 200,
            "registryPullQPS": 0,
            "shutdownGracePeriod": "0s",
        }
        proxy = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": POD_RANGE,
            "hostnameOverride": self.name,
            "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "clientConnection": {
                "kubeconfig": str(
                    authority.write_kubeconfig(f"proxy-{self._number}", self._control.url, "system:kube-proxy")
                )
            },
        }
        files = {"cni/10-pods.conflist": network, "kubelet.json": kubelet, "proxy.json": proxy}
        for name, content in files.items():
            (self._directory / name).write_text(json.dumps(content))
        (self._directory / "containerd.toml").write_text(
            CONTAINERD.format(
                socket=_SOCKET,
                pause=PAUSE_IMAGE,
                cni=CNI_DIRECTORY,
                directory=self._directory,
                runc=need_binary("runc"),
            )
        )
        bridge = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
        if bridge.exists():  # A reply on the bridge passes the translation of the Service too.
            self.run("sh", "-c", f"echo 1 > {bridge}")

    def _start_containerd(self) -> Program:
        program = self._start(
            "containerd", need_binary("containerd"), "--config", str(self._directory / "containerd.toml")
        )
        ctr = [*self._enter(""), need_binary("ctr"), "--address", _SOCKET, "version"]
        wait_until(
            lambda: subprocess.run(ctr, capture_output=True, check=False).returncode == 0,
            f"containerd does not answer: see {program.log_path}",
        )
        return program

    def _start_kubelet(self) -> Supervised:
        kubeconfig = self._control.authority.write_kubeconfig(
            f"kubelet-{self._number}", self._control.url, f"system:node:{self.name}", "system:nodes"
        )
        command = [
            *(*self._enter("kubelet"), need_binary("kubelet")),
            *(f"--config={self._directory}/kubelet.json", f"--kubeconfig={kubeconfig}"),
            *(f"--hostname-override={self.name}", f"--node-ip={self.address}"),
        ]
        kubelet = Supervised("kubelet", command, self._directory, _KUBELET_AWAY_SECONDS)
        self._stack.callback(kubelet.stop)
        return kubelet

    def _close(self) -> None:
        """Ends all processes of the node's cgroups and removes these; mounts and networks of Pods end with them."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            alive = False
            for procs in (_CGROUPS / "unified" / self._cgroup).rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    for pid in procs.read_text().split():
                        alive = True
                        subprocess.run(["kill", "-KILL", pid], check=False, capture_output=True)
            if not alive:
                break
            time.sleep(0.2)
        self._holder.wait(10)
        for name in self._hierarchies:
            top = _CGROUPS / name / self._cgroup
            for path in sorted((one for one in top.rglob("*") if one.is_dir()), key=lambda one: -len(one.parts)):
                _remove_cgroup(path)
            _remove_cgroup(top)


def _remove_cgroup(path: Path) -> None:
    """A cgroup is busy for a moment after its last process."""
    for _ in range(50):
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
