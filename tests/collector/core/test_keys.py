"""Files that only their owner may read, and tokens of the operator."""

from pathlib import Path

import pytest

from collector.core.keys import KeyFileError, read_token, write_private

VALUE = "0123456789" * 4


def test_a_token_of_the_operator_is_read_and_hidden(tmp_path: Path) -> None:
    write_private(tmp_path / "t", f"{VALUE}\n".encode())
    token = read_token(tmp_path / "t")
    assert not token.is_new and token.accepts(VALUE) and VALUE not in repr(token)
    assert not any(token.accepts(wrong) for wrong in ("", VALUE[:-1], VALUE + "x", "\ud800"))
    (tmp_path / "t").chmod(0o640)  # As Kubernetes mounts a Secret.
    assert read_token(tmp_path / "t") == token


@pytest.mark.parametrize(
    "content, fix", [(b"short", "at least 32"), (b"\xff" * 40, "no text"), (None, "does not exist")]
)
def test_a_token_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: bytes | None, fix: str) -> None:
    if content is not None:
        write_private(tmp_path / "t", content)
    with pytest.raises(KeyFileError, match=fix):
        read_token(tmp_path / "t")


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "t", VALUE.encode())
    (tmp_path / "t").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_token(tmp_path / "t")
