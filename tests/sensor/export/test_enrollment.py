"""A token with which nobody can enrol is refused before anything is sent, and the sentence says what to give."""

import asyncio
from pathlib import Path

import pytest

from sensor.export.certificates import CertificateFiles, CredentialError, enroll
from sensor.export.state import StateDirectory
from sensor.export.target import Target


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("", "the enrolment token is empty"),
        ("apidae1.abc", "the enrolment token is not whole"),
        ("abc", "does not name the authority of 127.0.0.1:7443"),
    ],
)
def test_a_token_that_cannot_be_one_is_named_with_what_to_copy(tmp_path: Path, token: str, sentence: str) -> None:
    files = CertificateFiles(StateDirectory(tmp_path), ca_file=None, cert_file=None, key_file=None)
    asked = enroll(
        target=Target(host="127.0.0.1", port=7443),
        token=token,
        cluster="",
        node="web-7",
        files=files,
        server_name="",
    )
    with pytest.raises(CredentialError, match=sentence) as refused:
        asyncio.run(asked)
    assert "copy" in str(refused.value) or "give what `apidae enrollment create` printed" in str(refused.value)
