"""What one sensor gives the next: all of it, to one that fits and lives, or nothing."""

import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensor.ebpf import handover as succession
from sensor.ebpf.handover import SOCKET_NAME, Claim, Estate, Heirs


@pytest.fixture
def heirs(tmp_path: Path) -> Iterator[Heirs]:
    """Those of a sensor that runs."""
    waiting = Heirs(tmp_path, "one")
    waiting.open()
    yield waiting
    waiting.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Something with a descriptor."""
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


def give(heirs: Heirs, estate: Estate, claim: Claim) -> bool:
    """Whether the claim takes it, as its process would: it polls while the other sends."""
    heir = heirs.find()
    assert heir is not None
    given: list[bool] = []
    giving = threading.Thread(target=lambda: given.append(heir.give(estate)))
    giving.start()
    while giving.is_alive():
        claim.poll()
    giving.join()
    claim.poll()
    return given[0]


def count_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_descriptors_and_state_pass_whole(tmp_path: Path, heirs: Heirs, pipe: tuple[int, int]) -> None:
    claim = Claim(tmp_path, "one")
    claim.poll()
    state = os.urandom(3_000_000)
    assert give(heirs, Estate(descriptors={"link": pipe[1], "map": pipe[0]}, state=state), claim)
    estate = claim.estate
    assert estate is not None and estate.state == state and list(estate.descriptors) == ["link", "map"]
    os.write(estate.descriptors["link"], b"still open")
    assert os.read(pipe[0], 100) == b"still open"
    assert "redacted" in repr(estate)
    estate.close()


def test_nobody_waits(heirs: Heirs) -> None:
    assert heirs.find() is None


def test_one_of_another_version_begins_anew(tmp_path: Path, heirs: Heirs) -> None:
    claim = Claim(tmp_path, "another")
    claim.poll()
    assert heirs.find() is None
    claim.poll()
    assert claim.estate is None and not claim.is_free
    assert heirs.release()
    claim.poll()
    assert claim.estate is None and claim.is_free


def test_of_several_of_another_version_the_newest_begins(tmp_path: Path, heirs: Heirs) -> None:
    claims = [Claim(tmp_path, "another") for _ in range(3)]
    for claim in claims:
        claim.poll()
    assert heirs.find() is None
    assert heirs.release() and not heirs.release()
    for claim in claims:
        claim.poll()
    assert [claim.is_free for claim in claims] == [False, False, True]


def test_who_waits_for_the_next_sensor_is_not_free(
    tmp_path: Path, heirs: Heirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "RETRY_SECONDS", 0.0)
    claim = Claim(tmp_path, "another")
    claim.poll()
    heirs.find()
    heirs.release()
    claim.poll()
    assert claim.is_free
    third = Heirs(tmp_path, "third")
    third.open()
    claim.poll()
    assert not claim.is_free
    claim.close()
    third.close()


def test_what_is_left_otherwise_is_not_left_beside_one_that_begins_anew(tmp_path: Path, pipe: tuple[int, int]) -> None:
    class Pinned:
        def give(self, estate: Estate) -> bool:
            return True

    heirs = Heirs(tmp_path, "one", Pinned())
    heirs.open()
    assert isinstance(heirs.find(), Pinned)
    claim = Claim(tmp_path, "another")
    claim.poll()
    assert heirs.find() is None
    claim.close()
    heirs.close()


def test_the_newest_that_lives_is_found(tmp_path: Path, heirs: Heirs, pipe: tuple[int, int]) -> None:
    claims = [Claim(tmp_path, "one") for _ in range(3)]
    for claim in claims:
        claim.poll()
    claims[2].close()
    before = count_descriptors()
    assert give(heirs, Estate(descriptors={"link": pipe[0]}, state=b"s"), claims[1])
    claims[0].poll()
    assert claims[0].estate is None
    claims[1].close()
    assert claims[1].estate is None
    assert count_descriptors() <= before


def test_an_heir_that_dies_has_taken_nothing(tmp_path: Path, heirs: Heirs, pipe: tuple[int, int]) -> None:
    claim = Claim(tmp_path, "one")
    claim.poll()
    heir = heirs.find()
    assert heir is not None
    claim.close()
    assert not heir.give(Estate(descriptors={"link": pipe[0]}, state=bytes(1_000_000)))


def test_an_heir_that_hangs_has_taken_nothing(
    tmp_path: Path, heirs: Heirs, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "GIVE_SECONDS", 0.05)
    claim = Claim(tmp_path, "one")
    claim.poll()
    heir = heirs.find()
    assert heir is not None
    assert not heir.give(Estate(descriptors={"link": pipe[0]}, state=b"s"))
    # What it was given after all it cannot use: its word comes too late.
    claim.poll()
    assert claim.estate is None
    claim.close()


@pytest.mark.parametrize(
    "said",
    [b"", b"{}\n", b"no json\n", b'{"names": [], "size": 9}\nxx', b'{"names": ["a"], "size": 1}\nx', b"x" * 9_000],
)
def test_what_is_not_whole_is_nothing(tmp_path: Path, said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen()
        claim = Claim(tmp_path, "one")
        claim.poll()
        channel, _ = listener.accept()
        channel.sendall(said)
        channel.close()
        claim.poll()
    assert claim.estate is None
    claim.poll()


def test_a_sensor_that_starts_later_is_waited_for(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "RETRY_SECONDS", 0.0)
    claim = Claim(tmp_path, "one")
    claim.poll()
    (tmp_path / SOCKET_NAME).touch()  # Of one that was killed.
    heirs = Heirs(tmp_path, "one")
    heirs.open()
    claim.poll()
    assert give(heirs, Estate(descriptors={"link": pipe[0]}, state=b"s"), claim)
    claim.close()
    heirs.close()
    assert not (tmp_path / SOCKET_NAME).exists()


def test_a_sensor_with_many_open_files_is_given_it_too(tmp_path: Path, heirs: Heirs, pipe: tuple[int, int]) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2_000:
        pytest.skip("needs to open 2,000 files (ulimit -n)")
    held = [os.dup(pipe[0]) for _ in range(1_100)]  # More than select() knows.
    try:
        claim = Claim(tmp_path, "one")
        claim.poll()
        assert give(heirs, Estate(descriptors={"link": pipe[0]}, state=b"s"), claim)
        claim.close()
    finally:
        for one in held:
            os.close(one)


def test_somebody_else_is_not_spoken_to(tmp_path: Path, heirs: Heirs, monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.geteuid()
    claim = Claim(tmp_path, "one")
    claim.poll()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert heirs.find() is None
    other = Claim(tmp_path, "one")
    other.poll()
    assert other.estate is None
    for one in (claim, other):
        one.close()


def test_only_the_owner_may_connect(tmp_path: Path, heirs: Heirs) -> None:
    assert (tmp_path / SOCKET_NAME).stat().st_mode & 0o777 == 0o600
