"""Seeds of the benches."""

import pytest

from scripts.seeds import read_seeds


@pytest.mark.parametrize(("text", "seeds"), [("7", [7]), ("1-3", [1, 2, 3]), ("4-4", [4])])
def test_one_or_from_to(text: str, seeds: list[int]) -> None:
    assert list(read_seeds(text)) == seeds


@pytest.mark.parametrize("text", ["3-1", "a", ""])
def test_what_names_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_seeds(text)
