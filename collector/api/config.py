"""/config: the settings that the collector runs with, and where each came from. No secret is in it."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model
from collector.api.parameters import NoParameters
from common.settings import EffectiveSetting


class SettingModel(Model):
    """One setting."""

    name: str
    value: str = Field(description="As in a variable. Of a secret it says only whether it is set.")
    source: str = Field(description="The flag, the variable or the file that named it, or `the default`.")
    is_secret: bool
    meaning: str


class ConfigModel(Model):
    """All settings, as in docs/reference/settings.md."""

    items: tuple[SettingModel, ...]


def build_config_routes(*, settings: Sequence[EffectiveSetting]) -> APIRouter:
    """The route of the effective configuration."""
    router = APIRouter(tags=["operation"])

    @router.get("/config", summary="Effective configuration")
    def get_config(_: Annotated[NoParameters, Query()]) -> ConfigModel:
        """Every setting with its value and where that came from: a flag, a variable, a file, or the default."""
        return ConfigModel(items=tuple(SettingModel.model_validate(setting) for setting in settings))

    return router
