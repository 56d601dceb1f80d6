"""The settings that say where alerts go (docs/notifiers.md): a part of the collector's settings."""

from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

PAGERDUTY_URL: Final = "https://events.pagerduty.com/v2/enqueue"
# What a receiver's address needs besides.
_NEEDED: Final = {"smtp_url": ("email_from", "email_to"), "template_url": ("template_file",)}


class SyslogFormat(StrEnum):
    """What a syslog message about an alert holds."""

    RFC5424 = "rfc5424"  # Structured data and a sentence.
    CEF = "cef"  # A record of the Common Event Format.


class NotifierSettings(BaseSettings):
    """All of them; addresses that hold a credential are secret."""

    webhook_url: SecretStr | None = None
    syslog_url: str | None = None
    syslog_format: SyslogFormat = SyslogFormat.RFC5424
    alertmanager_url: str | None = None
    slack_url: SecretStr | None = None
    teams_url: SecretStr | None = None
    pagerduty_routing_key: SecretStr | None = None
    pagerduty_url: str = PAGERDUTY_URL
    smtp_url: SecretStr | None = None
    email_from: str = Field(default="", max_length=320)
    email_to: tuple[str, ...] = Field(default=(), max_length=50)
    otlp_url: str | None = None
    otlp_headers: SecretStr | None = None
    ocsf_url: SecretStr | None = None
    ocsf_file: Path | None = None
    template_url: SecretStr | None = None
    template_file: Path | None = None
    template_content_type: str = Field(default="application/json", pattern=r"^[a-z]+/[a-z0-9.+-]+(; ?charset=utf-8)?$")

    @field_validator("email_to", mode="before")
    @classmethod
    def _split_addresses(cls, value: object) -> object:
        """The environment gives a list as text with commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check_belonging(self) -> "NotifierSettings":
        for name, needed in _NEEDED.items():
            missing = [other for other in needed if not getattr(self, other)]
            if getattr(self, name) is not None and missing:
                raise ValueError(f"{name} needs {' and '.join(missing)}; set all of them")
        return self
