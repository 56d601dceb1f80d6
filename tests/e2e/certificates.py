"""An authority and certificates for one test run, made by the openssl program."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """PEM files; `authority` is that which signed it."""

    certificate: Path
    key: Path
    authority: Path


def make_certificate(directory: Path, name: str, alternatives: str) -> Certificate:
    """A certificate by an authority of its own; `alternatives` as openssl writes it, `IP:127.0.0.1,DNS:localhost`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    directory = directory / name
    directory.mkdir()

    def make(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=directory, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    make("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority", *usage)
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-addext", f"subjectAltName={alternatives}")
    leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
    make("req", "-x509", *key, "-keyout", "tls.key", "-out", "tls.crt", "-subj", "/CN=collector", *signed, *leaf)
    return Certificate(certificate=directory / "tls.crt", key=directory / "tls.key", authority=directory / "ca.crt")
