"""Ends of reads over crashes at every moment."""

from pathlib import Path

from collector.detection.read_boundaries import CutJournal
from collector.log.base import Position

START, *ENDS = (Position(1, offset) for offset in (0, 10, 25, 70))


def write(path: Path, count: int = 3) -> None:
    journal = CutJournal(path)
    journal.resume(START)
    for end in ENDS[:count]:
        journal.add(end)
    journal.close()


def list_known(path: Path, position: Position) -> list[Position]:
    """Ends that a resumed journal gives, each read told as it does."""
    journal = CutJournal(path)
    journal.resume(position)
    known = []
    while (end := journal.find_next(position)) is not None:
        known.append(end)
        assert journal.reach(end)
        position = end
    journal.close()
    return known


def test_ends_come_again_until_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "cuts"
    write(path)
    assert list_known(path, START) == ENDS
    assert list_known(path, START) == ENDS  # A second crash: nothing was written twice or lost.
    journal = CutJournal(path)
    journal.resume(START)
    journal.begin(ENDS[2])
    journal.close()
    assert list_known(path, ENDS[2]) == []


def test_a_crash_right_after_a_checkpoint_leaves_the_ends_past_it(tmp_path: Path) -> None:
    write(tmp_path / "cuts")
    assert list_known(tmp_path / "cuts", ENDS[1]) == ENDS[2:]


def test_ends_of_another_checkpoint_are_dropped(tmp_path: Path) -> None:
    write(tmp_path / "cuts")
    assert list_known(tmp_path / "cuts", Position(2, 0)) == []
    assert list_known(tmp_path / "cuts", START) == []


def test_a_cut_record_is_no_end(tmp_path: Path) -> None:
    path = tmp_path / "cuts"
    write(path)
    path.write_bytes(path.read_bytes()[:-3])
    assert list_known(path, START) == ENDS[:2]
    write_more = CutJournal(path)
    write_more.resume(START)
    write_more.add(ENDS[2])
    write_more.close()
    assert list_known(path, START) == ENDS


def test_a_read_that_found_nothing_comes_again_too(tmp_path: Path) -> None:
    journal = CutJournal(tmp_path / "cuts")
    journal.resume(START)
    for end in (START, ENDS[0], ENDS[0], ENDS[1]):
        assert not journal.reach(end)
        journal.add(end)
    journal.close()
    assert list_known(tmp_path / "cuts", START) == [START, ENDS[0], ENDS[0], ENDS[1]]


def test_what_is_gone_from_the_log_is_dropped(tmp_path: Path) -> None:
    write(tmp_path / "cuts")
    journal = CutJournal(tmp_path / "cuts")
    journal.resume(START)
    journal.drop_next()
    assert journal.find_next(START) == ENDS[1]
    journal.close()
