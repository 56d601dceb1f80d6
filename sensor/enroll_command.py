"""`apidae enroll`: one-time token in, this node's certificate in the state directory.

The token comes from a file, from APIDAE_ENROLLMENT_TOKEN, or from the terminal or a pipe: never from the command line,
where `ps` would show it.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from sensor.compose import open_certificates
from sensor.config import ConfigError, SensorSettings, load_settings
from sensor.uplink.certificates import CredentialError
from sensor.uplink.enroll import EnrollmentError
from sensor.uplink.enroll import enroll as get_certificate
from sensor.uplink.state import StateDirectory, StateError
from sensor.uplink.target import parse_target

TOKEN_VARIABLE: Final = "APIDAE_ENROLLMENT_TOKEN"


def enroll(
    collector: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The collector's gRPC listener.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token; asked for unless given.")] = None,
    collector_ca_file: Annotated[
        Path | None, typer.Option(help="PEM authorities of the collector's certificate, where the token names none.")
    ] = None,
    collector_server_name: Annotated[str | None, typer.Option(help="Name in the collector's certificate.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Name of the cluster this node is in.")] = None,
    node: Annotated[str | None, typer.Option(help="Name of this node; the host name unless given.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where the sensor keeps its certificate.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of the sensor's settings.")] = None,
) -> None:
    """Get a certificate and keep it; every flag but --token-file is the sensor's setting of its name."""
    flags = {name: value for name, value in locals().items() if name not in ("config", "token_file")}
    try:
        settings = load_settings(flags, config_path=config)
        token = _read_token(token_file)
        asyncio.run(_enroll(settings, token))
    except (ConfigError, CredentialError, EnrollmentError, StateError, ValueError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename} cannot be read ({error.strerror}); correct --token-file or --collector-ca-file")
    told = {"event": "enrolled", "node": settings.node, "cluster": settings.cluster}
    print(json.dumps({**told, "certificate": str(open_certificates(settings, _open(settings)).certificate_path)}))


async def _enroll(settings: SensorSettings, token: str) -> None:
    if settings.client_cert_file is not None:
        raise ValueError(
            f"this sensor has the certificate of client_cert_file, {settings.client_cert_file}; drop that setting first"
        )
    await get_certificate(
        target=parse_target(settings.collector),
        token=token,
        cluster=settings.cluster,
        node=settings.node,
        files=open_certificates(settings, _open(settings)),
        server_name=settings.collector_server_name,
    )


def _open(settings: SensorSettings) -> StateDirectory:
    return StateDirectory(settings.state_dir)


def _read_token(path: Path | None) -> str:
    if path is not None:
        return path.read_text().strip()
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token and sys.stdin.isatty():
        token = str(typer.prompt("Enrolment token", hide_input=True, err=True))
    return (token or sys.stdin.readline()).strip()


def _fail(sentence: str) -> NoReturn:
    typer.echo(f"apidae: {sentence}", err=True)
    raise typer.Exit(1)
