"""Who held an address: one Pod, by the time of the call; nobody where it is not certain, and never the node."""

from typing import Any

from sensor.enrich.kubernetes.pod import KEEP_SECONDS, PodTable
from tests.cluster.pods import make_deployment_pod, make_pod
from tests.sensor.enrich.fakes import FakeClock
from tests.sensor.enrich.kubernetes.test_table import read

SECOND = 1_000_000_000
START = 1_795_600_000  # 2026-11-25T09:46:40Z


class Watched:
    """A table of Pods with both its clocks."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.now = START
        self.table = PodTable(clock=self.clock, unix_clock=lambda: self.now * SECOND)

    def find(self, address: str, first: float, last: float | None = None) -> str:
        """By seconds since START."""
        times = [int((START + one) * SECOND) for one in (first, first if last is None else last)]
        return self.table.addresses.find(address, times[0], times[1])


def started(raw: dict[str, Any], phase: str = "Running") -> dict[str, Any]:
    """A Pod that its kubelet took up at START + 10 s."""
    raw["status"] |= {"startTime": "2026-11-25T09:46:50Z", "phase": phase}
    return raw


def test_a_pod_holds_its_addresses_from_its_start() -> None:
    watched = Watched()
    watched.table.put(read(started(make_deployment_pod("cart"))))
    assert watched.find("10.244.1.7", 10) == watched.find("10.244.1.7", 11, 400) == "shop/cart"
    assert watched.find("10.244.1.7", 9.9) == watched.find("10.244.1.7", 9, 11) == watched.find("10.244.1.8", 11) == ""


def test_without_a_start_it_holds_them_from_when_it_was_heard_of() -> None:
    watched = Watched()
    watched.table.put(read(make_pod("a")))
    assert (watched.find("10.244.1.7", -1), watched.find("10.244.1.7", 0)) == ("", "shop/a")


def test_a_reused_address_is_named_by_the_time_of_the_call() -> None:
    watched = Watched()
    first, second = read(make_pod("first")), read(started(make_pod("second")))
    watched.table.put(first)
    watched.now = START + 5
    watched.table.remove(first.object_uid)
    watched.table.put(second)
    assert (watched.find("10.244.1.7", 4), watched.find("10.244.1.7", 20)) == ("shop/first", "shop/second")
    assert watched.find("10.244.1.7", 7) == ""
    # Within one time asked for both had it.
    assert watched.find("10.244.1.7", 4, 20) == ""


def test_an_address_of_several_pods_is_nobodys() -> None:
    watched = Watched()
    first = read(make_pod("first"))
    watched.table.put(first)
    watched.table.put(read(make_pod("second")))
    assert watched.find("10.244.1.7", 1) == ""
    watched.now = START + 5
    watched.table.replace([read(make_pod("second"))])
    assert (watched.find("10.244.1.7", 4), watched.find("10.244.1.7", 6)) == ("", "shop/second")


def test_a_pod_that_ended_has_its_address_no_more() -> None:
    watched = Watched()
    watched.table.put(read(make_pod("job")))
    watched.now = START + 5
    watched.table.put(read(started(make_pod("job"), "Succeeded")))
    watched.now = START + 9
    watched.table.put(read(started(make_pod("job", labels={"late": "yes"}), "Succeeded")))
    assert (watched.find("10.244.1.7", 4), watched.find("10.244.1.7", 6)) == ("shop/job", "")


def test_the_hosts_network_is_nobodys() -> None:
    watched = Watched()
    watched.table.put(read(make_pod("proxy", is_host_network=True, ip="192.0.2.4")))
    assert watched.find("192.0.2.4", 1) == ""


def test_addresses_are_known_as_the_kernel_writes_them() -> None:
    watched = Watched()
    watched.table.put(read(make_pod("a", ip="FD00:0:0:0::7")))
    assert watched.find("fd00::7", 1) == "shop/a"


def test_what_is_gone_for_long_is_forgotten() -> None:
    watched = Watched()
    pod = read(make_pod("a"))
    watched.table.put(pod)
    watched.now = START + 5
    watched.table.remove(pod.object_uid)
    assert watched.find("10.244.1.7", 4) == "shop/a"
    watched.clock.now += KEEP_SECONDS + 1
    watched.table.put(read(make_pod("b", ip="10.244.1.9")))
    assert watched.find("10.244.1.7", 4) == ""


def test_a_pod_that_is_listed_again_has_it_again() -> None:
    watched = Watched()
    pod = read(make_pod("a"))
    watched.table.replace([pod])
    watched.now = START + 5
    watched.table.replace([])
    assert watched.find("10.244.1.7", 6) == ""
    watched.table.replace([pod])
    assert watched.find("10.244.1.7", 6) == "shop/a"
