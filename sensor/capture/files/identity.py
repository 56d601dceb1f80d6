"""Names the ends of a capture's connections: a file says nothing of them but their addresses."""

from sensor.core.calls import Hop, Service, WorkloadKind


class CaptureIdentity:
    """Servers of a capture by the only name it has for them: their address."""

    is_leaving_out = False  # Nobody can switch a workload of a file off.

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        """The service at a server's end."""
        service = Service(
            cluster="",
            namespace="",
            workload=local_address,
            workload_kind=WorkloadKind.UNSPECIFIED,
            host_name="",
            port=local_port,
        )
        return service, Hop.UNSPECIFIED

    def client_workload(
        self, peer_cgroup_id: int, remote_address: str, remote_port: int, server_cgroup_id: int = 0
    ) -> str:
        """Unknown."""
        return ""

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        """Unknown."""
        return ""

    def why_left_out(self, cgroup_id: int) -> str:
        """Never."""
        return ""

    def why_end_left_out(self, cgroup_id: int, local_port: int, local_address: str) -> str:
        """Never."""
        return ""

    def is_kubelet(self, cgroup_id: int) -> bool:
        """Unknown, so no."""
        return False

    def is_node_client(self, peer_cgroup_id: int, remote_address: str, server_cgroup_id: int) -> bool:
        """Unknown, so no: a kubelet's probes are reported."""
        return False
