"""`apidae enforcement off|on|status`: the local switch, which no collector turns and a hanging sensor cannot miss."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sensor.config import SensorSettings
from sensor.enforce.switch import Switch

_STATE_DIR = Annotated[Path, typer.Option(help="The sensor's state directory.")]
_DEFAULT: Path = SensorSettings.model_fields["state_dir"].default


def register(app: typer.Typer) -> None:
    """Add the commands."""
    enforcement = typer.Typer(help="Have this node's sensor stop nobody, whatever the collector asks.")

    @enforcement.command("off")
    def off(
        reason: Annotated[str, typer.Option(help="Shown to whoever asks why.")] = "by the operator of this node",
        state_dir: _STATE_DIR = _DEFAULT,
    ) -> None:
        """Lift everything here within a second, and stop nobody until `on`; also over restarts."""
        _change(lambda switch: switch.turn_off(reason), state_dir)

    @enforcement.command("on")
    def on(state_dir: _STATE_DIR = _DEFAULT) -> None:
        """Enforce again what the settings allow."""
        _change(Switch.turn_on, state_dir)

    @enforcement.command("status")
    def status(state_dir: _STATE_DIR = _DEFAULT) -> None:
        """Tell whether it is switched off here."""
        _change(lambda switch: None, state_dir)

    app.add_typer(enforcement, name="enforcement")


def _change(change: Callable[[Switch], None], state_dir: Path) -> None:
    switch = Switch(state_dir)
    try:
        change(switch)
    except OSError as error:
        typer.echo(
            f"apidae: {switch.path} cannot be changed ({error.strerror}); run this as the sensor's user", err=True
        )
        raise typer.Exit(1) from None
    reason = switch.read()
    typer.echo(json.dumps({"is_off": bool(reason), "reason": reason}))
