"""A file uses what its busiest process uses at each moment."""

from sensor.capture.tls.by_file import FileUsages, make_number
from sensor.capture.tls.duty import Usage


def test_the_busiest_process_of_each_moment_is_what_a_file_uses() -> None:
    usages = FileUsages()
    files = {-1: (10, 11), -2: (12,)}
    assert usages.take({10: Usage(100, 5.0), 11: Usage(40, 7.0)}, files) == {-1: Usage(100, 7.0), -2: Usage(0, 0.0)}
    used = usages.take({10: Usage(110, 6.0), 11: Usage(240, 8.0), 12: Usage(3, 1.0)}, files)
    assert used == {-1: Usage(300, 8.0), -2: Usage(3, 1.0)}


def test_an_account_that_began_again_counts_from_nothing_and_a_file_never_uses_less() -> None:
    usages = FileUsages()
    usages.take({10: Usage(100, 5.0)}, {-1: (10,)})
    assert usages.take({10: Usage(7, 1.0)}, {-1: (10,)}) == {-1: Usage(107, 6.0)}
    assert usages.take({}, {-1: (10,)}) == {-1: Usage(107, 6.0)}
    assert usages.take({10: Usage(9, 1.0)}, {-1: (10,)}) == {-1: Usage(116, 7.0)}


def test_what_a_process_did_before_a_file_had_turns_is_not_the_files() -> None:
    usages = FileUsages()
    usages.take({10: Usage(5_000, 900.0)}, {})
    assert usages.take({10: Usage(5_010, 901.0)}, {-1: (10,)}) == {-1: Usage(10, 1.0)}


def test_numbers_of_files_are_of_no_process() -> None:
    assert make_number() < 0 and make_number() != make_number()
