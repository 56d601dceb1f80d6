"""A file of prices that the commands refuse."""

from pathlib import Path

import pytest
import typer

from collector.cli.models import read_prices


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_price_that_is_no_number_is_refused_by_name(
    tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(f'[[prices]]\nmodel = "a"\ninput = {value}\noutput = 1.0\n')
    with pytest.raises(typer.Exit):
        read_prices(file)
    assert f"input = {value}; give a number" in " ".join(capsys.readouterr().err.split())
