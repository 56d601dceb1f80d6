"""Attaching the Java agent to JVMs that run: only with consent, never harmful, and gone when consent is withdrawn."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensor.capture.java.attach import (
    ASKED,
    ATTACHED,
    FAILED,
    SECONDS_MAX,
    AskedError,
    AttachError,
    Target,
    ask,
    check_peer,
    read_target,
)
from sensor.capture.java.attachments import ATTACHING, END_SECONDS, NO_JAR, NOT_STARTED, WITHDRAWN, Attachments, Child
from sensor.capture.java.consent import ANNOTATED, FILE_NAME, Consent, JvmNames
from sensor.capture.java.ring import STATE_WAITING
from sensor.capture.java.search import read_cgroup
from sensor.core.attachments import AttachmentEvent, ConsentKind, Grant, Journal, PodConsent
from tests.e2e.tls_cases import make_context
from tests.e2e.traffic import MIX, send_mix
from tests.e2e.wire import RawClient
from tests.sensor.capture.java.jvms import ADDRESS, Jvms, Sensor, read_state
from tests.sensor.capture.java.test_agent import VERSIONS
from tests.waiting import wait_for_equal, wait_until

pytestmark = [pytest.mark.full("sensor.capture.java")]

STATUS = "Name:\tjava\nPid:\t12\nUid:\t0\t1000\t0\t0\nGid:\t0\t1001\t0\t0\nNSpid:\t12\t7\nSigCgt:\t{:016x}\n"
HANDLES_QUIT = 1 << 2
MAPS = b"7f00 /opt/java/lib/libjli.so\n7f10 /opt/java/lib/server/libjvm.so"
THREADS = frozenset((b"java", b"Signal Dispatch"))


@pytest.fixture(scope="module")
def jvms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jvms]:
    running = Jvms(tmp_path_factory.mktemp("jvms"))
    yield running
    running.stop()


def write_consent(directory: Path, *patterns: str) -> None:
    (directory / FILE_NAME).write_text("".join(f"{pattern}\n" for pattern in patterns))
    (directory / FILE_NAME).chmod(0o600)


def consent_to(directory: Path, *patterns: str) -> Consent:
    """As it is after two looks."""
    write_consent(directory, *patterns)
    consent = Consent(directory)
    assert [consent.reread(), consent.reread()] == [False, bool(patterns)]
    return consent


def covers(consent: Consent, name: str) -> bool:
    """Whether a JVM of this cgroup or workload may get the agent."""
    return consent.find_grant(JvmNames(names=(name,))) is not None


def find_own_pattern() -> str:
    """Of the cgroup of this process, and so of the JVMs that it starts."""
    return read_cgroup(os.open("/proc/self", os.O_RDONLY))


def list_events(journal: Journal, pid: int) -> list[AttachmentEvent]:
    """What happened to a JVM of this test, by the line that covers it."""
    _, records = journal.read_after(0)
    assert {(one.process, one.process_name) for one in records} == {(pid, "java")}
    grants = {one.grant for one in records if one.event is not AttachmentEvent.DETACHED}
    assert grants == {Grant(ConsentKind.LINE, f"1 {find_own_pattern()}")}
    return [one.event for one in records]


def list_files(pid: int) -> dict[str, int]:
    """Where the jar is put: sizes by name."""
    places = (Path(f"/proc/{pid}/root/dev/shm"), Path(f"/proc/{pid}/root/tmp"))
    start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return {str(one): one.stat().st_size for place in places for one in place.glob(f"apidae-{pid}-{start}-*")}


def test_a_jvm_that_runs_is_read_with_consent_and_left_when_it_is_withdrawn(jvms: Jvms, tmp_path: Path) -> None:
    program, port = jvms.start("engine", has_agent=False)
    journal = Journal()
    consent = consent_to(tmp_path, find_own_pattern())
    attachments = Attachments(consent, time.monotonic, jar=jvms.jar, journal=journal)
    sensor = Sensor(program.pid, attachments)
    sensor.start()
    wait_until(lambda: sensor.look() == "" and not attachments.is_busy(program.pid), "the program ends")
    assert (attachments.attached_total, attachments.failed_total) == (1, 0)
    assert list_events(journal, program.pid) == [AttachmentEvent.ATTACHED]
    for version in VERSIONS:
        with RawClient(ADDRESS, port, tls=make_context(jvms.certificate, version)) as client:
            send_mix(client)
    wait_for_equal(sensor.read, len(VERSIONS) * len(MIX), "calls")
    (name, size), *more = list_files(program.pid).items()
    assert (size, more) == (0, []), "an empty file holds the jar's name"
    write_consent(tmp_path)
    # A sensor that did not attach it itself.
    sensor.end()
    attachments = Attachments(Consent(tmp_path), time.monotonic, jar=jvms.jar, journal=journal)
    sensor = Sensor(program.pid, attachments)
    wait_for_equal(lambda: str(sensor.look()), WITHDRAWN, "consent is withdrawn")
    wait_until(lambda: read_state(program.pid) == STATE_WAITING, "the patches are out")
    with RawClient(ADDRESS, port, tls=make_context(jvms.certificate, VERSIONS[0])) as client:
        send_mix(client)
    assert program.is_running and sensor.read() == 0
    # And once more.
    write_consent(tmp_path, find_own_pattern(), "# again")
    sensor.start()
    with RawClient(ADDRESS, port, tls=make_context(jvms.certificate, VERSIONS[0])) as client:
        send_mix(client)
    wait_for_equal(sensor.read, len(MIX), "calls")
    assert attachments.attached_total == 0, "it is the same agent"
    write_consent(tmp_path)
    wait_for_equal(lambda: str(sensor.look()), WITHDRAWN, "consent is withdrawn")
    expected = [AttachmentEvent.ATTACHED, AttachmentEvent.REATTACHED, AttachmentEvent.DETACHED]
    assert list_events(journal, program.pid) == expected
    sensor.end()
    program.stop()
    assert not Path(name).exists(), "the agent gives the name back when the JVM ends"


def test_a_jvm_without_the_mechanism_lives_on_and_is_left_alone_after_two_tries(jvms: Jvms, tmp_path: Path) -> None:
    program, _ = jvms.start("engine", has_agent=False, options=("-Xrs",))
    journal = Journal()
    consent = consent_to(tmp_path, find_own_pattern())
    attachments = Attachments(consent, time.monotonic, jar=jvms.jar, journal=journal)
    sensor = Sensor(program.pid, attachments)
    wait_until(lambda: sensor.look() is not None and attachments.failed_total == 2, "two tries")
    assert list_events(journal, program.pid) == [AttachmentEvent.FAILED] * 2
    reason = sensor.look()
    assert reason is not None and "-Xrs" in reason
    assert [sensor.look() for _ in range(3)] == [reason] * 3 and attachments.failed_total == 2
    assert program.is_running
    sensor.agents.close()


def test_a_jvm_that_was_asked_before_is_not_asked_again(jvms: Jvms, tmp_path: Path) -> None:
    """By any sensor: it would have a second jar in its class path for good."""
    program, _ = jvms.start("engine", has_agent=False)
    broken = tmp_path / "broken.jar"
    broken.write_bytes(b"no jar")
    attachments = Attachments(consent_to(tmp_path, find_own_pattern()), time.monotonic, jar=broken)
    sensor = Sensor(program.pid, attachments)
    wait_until(lambda: sensor.look() is not None and attachments.failed_total == 1, "one try")
    attachments = Attachments(consent_to(tmp_path, find_own_pattern()), time.monotonic, jar=jvms.jar)
    sensor = Sensor(program.pid, attachments)
    wait_until(lambda: sensor.look() is not None and attachments.failed_total == 1, "one more")
    assert "restart the JVM" in str(sensor.look()) and attachments.attached_total == 0
    assert [sensor.look() for _ in range(3)] == [sensor.look()] * 3 and attachments.failed_total == 1
    assert program.is_running
    sensor.agents.close()


# With its own /tmp and /dev/shm, but for the files that it needs; then as nobody.
APART = """
chmod -R a+rX "$1" && mount --bind "$1" /mnt && mount -t tmpfs -o mode=1777 none /tmp && mkdir -p "$1" &&
mount --bind /mnt "$1" && mount -t tmpfs -o mode=1777 none /dev/shm && shift &&
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
"""


def test_a_jvm_of_another_user_in_other_namespaces_is_attached_to(jvms: Jvms, tmp_path: Path) -> None:
    """Its files are in its own root directory and of its own user."""
    if os.geteuid() or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("needs root, unshare and setpriv (apt-get install util-linux)")
    if not all(path.stat().st_mode & 0o005 == 0o005 for path in Path(__file__).parents):
        pytest.skip("needs a checkout that every user may read")
    namespaces = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    within = (*namespaces, "sh", "-c", APART, "sh", str(jvms.directory))
    program, port = jvms.start("socket", has_agent=False, within=within)
    pid = find_jvm(program.pid)
    attachments = Attachments(consent_to(tmp_path, find_own_pattern()), time.monotonic, jar=jvms.jar)
    sensor = Sensor(pid, attachments)
    sensor.start()
    with RawClient(ADDRESS, port, tls=make_context(jvms.certificate, VERSIONS[0])) as client:
        send_mix(client)
        wait_for_equal(sensor.read, len(MIX), "calls")
    assert {(call.ends.local_port, call.ends.remote_address) for call in sensor.calls} == {(port, ADDRESS)}
    assert Path(f"/proc/{pid}").stat().st_uid == 65_534
    wait_until(lambda: sensor.look() == "" and not attachments.is_busy(pid), "the program ends")
    (name,) = Path(f"/proc/{pid}/root/dev/shm").iterdir()
    assert (name.stat().st_uid, name.stat().st_size) == (65_534, 0), "an empty file holds the jar's name"
    sensor.end()
    program.stop()


ENTERS = """
import ctypes, os, sys
from sensor.capture.java.attach import Target, _enter
user = int(sys.argv[1])
_enter(os.open("/", os.O_PATH), Target(user=user, group=user, number=1))
os._exit(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
"""


@pytest.mark.parametrize("user", [0, 65_534])
def test_whoever_is_of_the_user_of_the_jvm_does_not_trace_the_program(user: int) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    assert subprocess.run([sys.executable, "-c", ENTERS, str(user)], check=False).returncode == 0


def find_jvm(pid: int) -> int:
    """The process itself, or the one that it started."""
    while Path(f"/proc/{pid}/comm").read_text().strip() != "java":
        (pid,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return pid


class Host:
    """A directory of /proc with one process, and programs that attach to it."""

    def __init__(self, directory: Path, cgroup: str, code: str = "raise SystemExit('It was refused.')") -> None:
        (directory / "10").mkdir(parents=True)
        (directory / "10/cgroup").write_text(f"0::{cgroup}\n")
        (directory / "10/stat").write_text("10 (java) S" + " 1" * 40)
        (directory / "10/comm").write_text("java\n")
        self.directory = os.open(directory / "10", os.O_RDONLY)
        self.journal = Journal()
        self.code = code
        self.now = 1_000.0
        self.children: list[Child] = []

    def start(self, pid: int, directory: int, cgroup: str, jar: Path) -> Child:
        self.children.append(subprocess.Popen([sys.executable, "-c", self.code], stderr=subprocess.PIPE))
        return self.children[-1]

    def attach_by(self, consent: Consent, jar: Path) -> Attachments:
        return Attachments(consent, lambda: self.now, start=self.start, jar=jar, journal=self.journal)


def test_a_jvm_that_ends_while_it_is_attached_to_is_in_the_journal(tmp_path: Path) -> None:
    host = Host(tmp_path / "proc", "/a", "import time; time.sleep(600)")
    attachments = host.attach_by(consent_to(tmp_path, "/a"), tmp_path)
    assert attachments.step(10, host.directory) == ATTACHING
    attachments.forget(10)
    (record,) = host.journal.read_after(0)[1]
    assert record.event is AttachmentEvent.FAILED and record.reason.startswith("The JVM ended")
    attachments.note_attached(10, host.directory, Grant(ConsentKind.LINE, "1 /a"))
    attachments.note_attached(10, host.directory, Grant(ConsentKind.LINE, "1 /a"))
    assert [one.event for one in host.journal.read_after(1)[1]] == [AttachmentEvent.ATTACHED]
    host.children[0].kill()
    host.children[0].wait()
    attachments.reread()


def test_without_consent_nothing_is_attached(tmp_path: Path) -> None:
    host = Host(tmp_path / "proc", "/system.slice/shop.service")
    attachments = host.attach_by(consent_to(tmp_path), tmp_path)
    assert attachments.step(10, host.directory) is None
    for patterns, answer in (
        (("# /system.slice/shop.service", "/system.slice/other.service", ""), None),
        (("/system.slice/*.service",), ATTACHING),
    ):
        write_consent(tmp_path, *patterns)
        assert (attachments.reread(), attachments.reread()) == (False, True)
        assert attachments.step(10, host.directory) == answer
    wait_for_equal(lambda: str(attachments.step(10, host.directory)), "It was refused.", "the first try")
    wait_until(lambda: attachments.step(10, host.directory) != ATTACHING and len(host.children) == 2, "the second try")
    assert attachments.step(10, host.directory) == "It was refused." and attachments.failed_total == 2
    attachments.close()


def test_a_pod_is_covered_by_its_workload_and_by_its_cgroup_from_the_root(tmp_path: Path) -> None:
    """A sensor in a Pod sees cgroups of others from its own one."""
    host = Host(tmp_path / "proc", "/../../kubepods-pod1.slice/cri-1.scope")
    names = JvmNames(names=("/kubepods.slice/kubepods-pod1.slice/cri-1.scope", "shop/cart"))
    for pattern, covered in (
        ("shop/cart", True),
        ("shop/*", True),
        ("/kubepods.slice/*/cri-*", True),
        ("shop/card", False),
        ("cart", False),
    ):
        consent = consent_to(tmp_path, pattern)
        attachments = Attachments(consent, lambda: host.now, jar=tmp_path / "none.jar", describe=lambda _: names)
        assert (attachments.step(10, host.directory) == NO_JAR) is covered, pattern


@pytest.mark.parametrize(
    ("pattern", "cgroup", "is_covered"),
    [
        ("/system.slice/tomcat*.service", "/system.slice/tomcat-shop.service", True),
        ("/system.slice/tomcat*.service", "/system.slice/tomcat-shop.service/own/other.service", False),
        ("*.service", "/user.slice/made-up.service", False),
        ("/a[b]", "/a[b]", True),
        ("/a[b]", "/ab", False),
        ("/a/b#c", "/a/b#c", True),
        ("/a/b?", "/a/b/", False),
        ("/", "/", True),
        ("/", "/a", False),
    ],
)
def test_a_pattern_covers_names_and_nothing_that_is_deeper(
    tmp_path: Path, pattern: str, cgroup: str, is_covered: bool
) -> None:
    assert covers(consent_to(tmp_path, pattern), cgroup) is is_covered


def make_pod(annotated: bool | None = None, labelled: bool | None = None) -> JvmNames:
    pod = PodConsent(namespace="shop", name="cart-1", annotated=annotated, labelled=labelled)
    return JvmNames(names=("/kubepods/pod1", "shop/cart"), pod=pod)


@pytest.mark.parametrize(
    ("lines", "jvm", "expected"),
    [
        ((ANNOTATED,), make_pod(annotated=True), Grant(ConsentKind.ANNOTATION, "shop/cart-1")),
        ((ANNOTATED,), make_pod(labelled=True), Grant(ConsentKind.LABEL, "shop")),
        ((ANNOTATED,), make_pod(annotated=False, labelled=True), None),
        ((ANNOTATED,), make_pod(annotated=True, labelled=False), Grant(ConsentKind.ANNOTATION, "shop/cart-1")),
        ((ANNOTATED,), make_pod(), None),
        ((ANNOTATED,), JvmNames(names=("/system.slice/a.service",)), None),
        (("other/*",), make_pod(annotated=True, labelled=True), None),
        (("# who", "", ANNOTATED, "shop/*"), make_pod(annotated=False), Grant(ConsentKind.LINE, "4 shop/*")),
        ((ANNOTATED,), JvmNames(names=(ANNOTATED,)), None),
    ],
)
def test_pods_and_namespaces_consent_for_themselves_where_the_file_lets_them(
    tmp_path: Path, lines: tuple[str, ...], jvm: JvmNames, expected: Grant | None
) -> None:
    assert consent_to(tmp_path, *lines).find_grant(jvm) == expected


def test_another_annotation_is_a_change_where_the_file_lets_pods_consent(tmp_path: Path) -> None:
    generation = 1
    consent = Consent(tmp_path, lambda: generation)
    write_consent(tmp_path, "/a")
    assert [consent.reread(), consent.reread()] == [False, True]
    generation = 2
    assert not consent.reread()
    write_consent(tmp_path, ANNOTATED)
    assert [consent.reread(), consent.reread(), consent.reread()] == [False, True, False]
    generation = 3
    assert [consent.reread(), consent.reread()] == [True, False]


def test_a_file_that_is_being_written_changes_nothing_until_two_looks_agree(tmp_path: Path) -> None:
    consent = consent_to(tmp_path, "/a", "/b")
    write_consent(tmp_path)
    assert not consent.reread() and covers(consent, "/b")
    write_consent(tmp_path, "/a")
    assert not consent.reread() and covers(consent, "/b")
    write_consent(tmp_path, "/a", "/c")
    assert not consent.reread() and covers(consent, "/b") and not covers(consent, "/c")
    assert consent.reread() and not covers(consent, "/b") and covers(consent, "/c")


def test_a_file_that_others_may_write_is_no_consent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    consent = consent_to(tmp_path, "/a")
    (tmp_path / FILE_NAME).chmod(0o666)
    consent.reread()
    consent.reread()
    assert not covers(consent, "/a") and caplog.text.count("chmod go-w") == 1


def test_a_program_that_cannot_be_started_is_a_reason(tmp_path: Path) -> None:
    host = Host(tmp_path / "proc", "/a")

    def start(pid: int, directory: int, cgroup: str, jar: Path) -> Child:
        raise OSError(11, "Resource temporarily unavailable")

    attachments = Attachments(consent_to(tmp_path, "/a"), lambda: host.now, start=start, jar=tmp_path)
    assert "Resource temporarily unavailable" in str(attachments.step(10, host.directory))


IGNORES_END = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


def test_a_program_that_does_not_end_is_killed_and_nobody_waits_for_it(tmp_path: Path) -> None:
    """Neither when it is late, nor when its process has ended."""
    host = Host(tmp_path / "proc", "/a", IGNORES_END)
    attachments = host.attach_by(consent_to(tmp_path, "/a"), tmp_path)
    for is_forgotten in (False, True):
        assert attachments.step(10, host.directory) == ATTACHING
        if is_forgotten:
            attachments.forget(10)
        else:
            host.now += SECONDS_MAX
            attachments.reread()
        host.now += END_SECONDS
        attachments.reread()
        child = host.children[-1]
        assert child.wait() in (-signal.SIGKILL, -signal.SIGTERM)
        attachments.reread()
        if not is_forgotten:
            assert attachments.step(10, host.directory) not in (ATTACHING, "")


@pytest.mark.parametrize(
    ("code", "tries", "reason"), [(ASKED, 1, "It said no."), (FAILED, 2, "It said no."), (0, 1, NOT_STARTED)]
)
def test_a_jvm_that_was_asked_is_asked_once(tmp_path: Path, code: int, tries: int, reason: str) -> None:
    host = Host(tmp_path / "proc", "/a", f"import sys; print('It said no.', file=sys.stderr); sys.exit({code})")
    attachments = host.attach_by(consent_to(tmp_path, "/a"), tmp_path)

    def step() -> str | None:
        answer = attachments.step(10, host.directory)
        return answer if not attachments.is_busy(10) else None

    for _ in range(tries):
        attachments.step(10, host.directory)
        wait_until(lambda: step() is not None or attachments.is_busy(10) is False, "an answer")
    wait_for_equal(lambda: str(step()), reason, "the last reason")
    assert len(host.children) == tries and attachments.attached_total == (code == ATTACHED)


def test_an_installation_without_the_jar_says_so(tmp_path: Path) -> None:
    host = Host(tmp_path / "proc", "/a")
    attachments = host.attach_by(consent_to(tmp_path, "/a"), tmp_path / "none.jar")
    assert attachments.step(10, host.directory) == NO_JAR


def test_a_target_is_its_effective_user_and_its_own_number() -> None:
    target = read_target(STATUS.format(HANDLES_QUIT), MAPS, THREADS, b"java\0-jar\0app.jar\0")
    assert target == Target(user=1000, group=1001, number=7)


@pytest.mark.parametrize(
    ("handled", "maps", "threads", "options", "what"),
    [
        (0, MAPS, THREADS, b"", "-Xrs"),
        (HANDLES_QUIT, MAPS, frozenset((b"java",)), b"", "-Xrs"),
        (HANDLES_QUIT, MAPS + b"\n7f00 /opt/java/lib/default/libj9vm29.so", THREADS, b"", "OpenJ9"),
        (HANDLES_QUIT, b"7f00 /opt/java/lib/server/libjvm.so", THREADS, b"", "embeds"),
        (HANDLES_QUIT, MAPS, THREADS, b"java\0-XX:+DisableAttachMechanism\0", "DisableAttachMechanism"),
        (HANDLES_QUIT, MAPS, THREADS, b"JAVA_TOOL_OPTIONS=-XX:+DisableAttachMechanism\0", "DisableAttachMechanism"),
    ],
)
def test_what_has_no_such_mechanism_is_refused_by_name(
    handled: int, maps: bytes, threads: frozenset[bytes], options: bytes, what: str
) -> None:
    with pytest.raises(AttachError, match=what):
        read_target(STATUS.format(handled), maps, threads, options)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_a_peer_that_is_not_the_jvm_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    check_peer(pair[0], os.getpid())
    with pytest.raises(AttachError, match="in place of this JVM"):
        check_peer(pair[0], os.getpid() + 1)


class LateError(AttachError):
    """As the alarm of the program raises it."""


@pytest.mark.parametrize("answer", [b"", b"0"])
def test_a_jvm_that_answers_a_byte_at_a_time_is_left_at_the_alarm(
    pair: tuple[socket.socket, socket.socket], answer: bytes
) -> None:
    """And counts as asked, for it may load the agent late."""
    ours, theirs = pair
    main, gone = threading.get_ident(), threading.Event()

    def be_late(number: int, frame: object) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        raise LateError("late")

    def answer_slowly() -> None:
        while theirs.recv(1 << 16).count(b"\0") < 5:
            pass
        for byte in answer:
            theirs.send(bytes((byte,)))
        while not gone.is_set():
            signal.pthread_kill(main, signal.SIGALRM)
            gone.wait(0.01)

    before = signal.signal(signal.SIGALRM, be_late)
    jvm = threading.Thread(target=answer_slowly)
    jvm.start()
    try:
        with pytest.raises(AskedError, match="late"):
            ask(ours, "/tmp/apidae.jar")
    finally:
        gone.set()
        jvm.join()
        signal.signal(signal.SIGALRM, before)
