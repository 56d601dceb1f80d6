"""Attaching the Java agent to JVMs that run: only with consent, never harmful, and gone when consent is withdrawn."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensor.capture.java.attach import AttachError, read_target
from sensor.capture.java.attachments import ATTACHING, NO_JAR, WITHDRAWN, Attachments, Child
from sensor.capture.java.consent import FILE_NAME, Consent
from sensor.capture.java.ring import STATE_WAITING
from tests.e2e.tls_cases import make_context
from tests.e2e.traffic import MIX, send_mix
from tests.e2e.wire import RawClient
from tests.sensor.capture.java.jvms import ADDRESS, Jvms, Sensor
from tests.sensor.capture.java.test_agent import VERSIONS
from tests.waiting import wait_for_equal, wait_until

pytestmark = [pytest.mark.full("sensor.capture.java")]

STATUS = "Name:\tjava\nPid:\t12\nUid:\t0\t1000\t0\t0\nGid:\t0\t1001\t0\t0\nNSpid:\t12\t7\nSigCgt:\t{:016x}\n"
HANDLES_QUIT = 1 << 2


@pytest.fixture(scope="module")
def jvms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jvms]:
    running = Jvms(tmp_path_factory.mktemp("jvms"))
    yield running
    running.stop()


def consent_to(directory: Path, *patterns: str) -> Consent:
    (directory / FILE_NAME).write_text("".join(f"{pattern}\n" for pattern in patterns))
    return Consent(directory)


def test_a_jvm_that_runs_is_read_with_consent_and_left_when_it_is_withdrawn(jvms: Jvms, tmp_path: Path) -> None:
    program, port = jvms.start("engine", has_agent=False)
    attachments = Attachments("/proc", consent_to(tmp_path, "*"), jar=jvms.jar)
    sensor = Sensor(program.pid, attachments)
    sensor.start()
    assert (attachments.attached_total, attachments.failed_total) == (1, 0)
    for version in VERSIONS:
        with RawClient(ADDRESS, port, tls=make_context(jvms.certificate, version)) as client:
            send_mix(client)
    wait_for_equal(sensor.read, len(VERSIONS) * len(MIX), "calls")
    assert not any(one.endswith(".jar") and "apidae-" in one for one in list_files(program.pid)), "the jar has no name"
    consent_to(tmp_path)
    # A sensor that did not attach it itself.
    sensor.agents.close()
    sensor = Sensor(program.pid, attachments := Attachments("/proc", Consent(tmp_path), jar=jvms.jar))
    wait_for_equal(sensor.look, WITHDRAWN, "consent is withdrawn")
    wait_until(lambda: sensor.agents.state(program.pid) == STATE_WAITING, "the patches are out")
    with RawClient(ADDRESS, port, tls=make_context(jvms.certificate, VERSIONS[0])) as client:
        send_mix(client)
    assert program.is_running and sensor.read() == 0
    # And once more.
    consent_to(tmp_path, "*", "# again")
    sensor.start()
    with RawClient(ADDRESS, port, tls=make_context(jvms.certificate, VERSIONS[0])) as client:
        send_mix(client)
    wait_for_equal(sensor.read, len(MIX), "calls")
    assert attachments.attached_total == 0, "it is the same agent"
    sensor.agents.stop()
    sensor.agents.close()


def list_files(pid: int) -> list[str]:
    """Where the jar is put."""
    places = (Path(f"/proc/{pid}/root/dev/shm"), Path(f"/proc/{pid}/root/tmp"))
    return [str(one) for place in places for one in place.iterdir()]


def test_a_jvm_without_the_mechanism_lives_on_and_is_left_alone_after_two_tries(jvms: Jvms, tmp_path: Path) -> None:
    program, _ = jvms.start("engine", has_agent=False, options=("-Xrs",))
    attachments = Attachments("/proc", consent_to(tmp_path, "*"), jar=jvms.jar)
    sensor = Sensor(program.pid, attachments)
    wait_until(lambda: sensor.look() is not None and attachments.failed_total == 2, "two tries")
    reason = sensor.look()
    assert reason is not None and "-Xrs" in reason
    assert [sensor.look() for _ in range(3)] == [reason] * 3 and attachments.failed_total == 2
    assert program.is_running
    sensor.agents.close()


def fail(proc: str, pid: int, jar: Path) -> Child:
    return subprocess.Popen([sys.executable, "-c", "raise SystemExit('It was refused.')"], stderr=subprocess.PIPE)


def test_without_consent_nothing_is_attached(tmp_path: Path) -> None:
    (tmp_path / "proc/10").mkdir(parents=True)
    (tmp_path / "proc/10/cgroup").write_text("0::/system.slice/shop.service\n")
    attachments = Attachments(str(tmp_path / "proc"), Consent(tmp_path), start=fail, jar=tmp_path)
    attachments.reread()
    assert attachments.step(10) is None
    (tmp_path / FILE_NAME).write_text("/system.slice/other.service # not this one\n\n")
    attachments.reread()
    assert attachments.step(10) is None
    (tmp_path / FILE_NAME).write_text("/system.slice/shop*.service\n")
    attachments.reread()
    assert attachments.step(10) == ATTACHING
    wait_for_equal(lambda: attachments.step(10), "It was refused.", "the first try")
    wait_until(lambda: attachments.step(10) != ATTACHING and attachments.failed_total == 2, "the second try")
    assert attachments.step(10) == "It was refused."
    attachments.close()


def test_a_pod_is_covered_by_its_workload_and_by_its_cgroup_from_the_root(tmp_path: Path) -> None:
    """A sensor in a Pod sees cgroups of others from its own one."""
    (tmp_path / "10").mkdir()
    (tmp_path / "10/cgroup").write_text("0::/../../kubepods-pod1.slice/cri-1.scope\n")
    names = ["/kubepods.slice/kubepods-pod1.slice/cri-1.scope", "shop/cart"]
    for number, (pattern, covered) in enumerate(
        (
            ("shop/cart", True),
            ("shop/*", True),
            ("/kubepods.slice/*/cri-*", True),
            ("shop/card", False),
            ("cart", False),
        )
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        consent = consent_to(directory, pattern)
        attachments = Attachments(
            str(tmp_path), consent, start=fail, jar=tmp_path / "none.jar", list_names=lambda _: names
        )
        attachments.reread()
        assert (attachments.step(10) == NO_JAR) is covered, pattern


def test_an_installation_without_the_jar_says_so(tmp_path: Path) -> None:
    (tmp_path / "10").mkdir()
    (tmp_path / "10/cgroup").write_text("0::/a\n")
    attachments = Attachments(str(tmp_path), consent_to(tmp_path, "/a"), start=fail, jar=tmp_path / "none.jar")
    attachments.reread()
    assert attachments.step(10) == NO_JAR


def test_a_target_is_its_effective_user_and_its_own_number() -> None:
    assert read_target(STATUS.format(HANDLES_QUIT), b"/usr/lib/jvm/libjvm.so") == (1000, 1001, 7)


@pytest.mark.parametrize(
    ("status", "maps", "what"),
    [
        (STATUS.format(0), b"", "-Xrs"),
        (STATUS.format(HANDLES_QUIT), b"7f00 /opt/java/lib/default/libj9vm29.so", "OpenJ9"),
    ],
)
def test_what_has_no_such_mechanism_is_refused_by_name(status: str, maps: bytes, what: str) -> None:
    with pytest.raises(AttachError, match=what):
        read_target(status, maps)
