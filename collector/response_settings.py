"""The settings that say who else is told of blocks (docs/response.md#elsewhere): a part of the collector's settings."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings


class ResponseSettings(BaseSettings):
    """All of them; nobody is told by default."""

    block_webhook_url: SecretStr | None = None
    block_export_dir: Path | None = None
    haproxy_socket: str | None = Field(default=None, max_length=512, pattern=r"^(/\S+|\S+:[0-9]{1,5})$")
    haproxy_acl: str = Field(default="", max_length=512, pattern=r"^[!-:<-~]*$")  # No space, and no `;`.
    # Those of HTTP and HTTPS that Traefik's deny list is for, by the names that its documentation and chart give them;
    # none: all that are default.
    traefik_entry_points: tuple[str, ...] = ("web", "websecure")

    @field_validator("traefik_entry_points", mode="before")
    @classmethod
    def _split_entry_points(cls, value: object) -> object:
        """The environment gives a list as text with commas."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check_list(self) -> "ResponseSettings":
        if self.haproxy_socket is not None and not self.haproxy_acl:
            raise ValueError("haproxy_socket needs haproxy_acl, the list's name as in `acl .. src -f NAME`; set both")
        return self
