"""The programs' settings as JSON schema for the chart, so that `helm install` refuses what a program would refuse.

Takes the settings classes (pydantic), gives the definitions of `values.schema.json` that hold them: a setting that is
secret may only come from a Secret, all others are values. Draft 7, without what Helm does not check (formats, titles).
"""

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from collector.core.config import CollectorSettings
from sensor.core.config import SensorSettings

CHART: Final = Path(__file__).parents[2] / "deploy" / "helm" / "apidae"
SCHEMA: Final = CHART / "values.schema.json"
SIDES: Final[dict[str, type[BaseModel]]] = {"sensor": SensorSettings, "collector": CollectorSettings}
_KEPT: Final = (
    "description",
    *("type", "enum", "pattern", "items"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"),
)


def define_settings(settings: type[BaseModel]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(schema of the settings that are values, schema of those that come from Secrets)."""
    whole = settings.model_json_schema()
    plain, secret = {}, {}
    for name, told in whole["properties"].items():
        if _is_secret(told):
            secret[name] = {"$ref": "#/definitions/secretKey"}
        else:
            plain[name] = _simplify(told, whole.get("$defs", {}))
    return _object(plain), _object(secret)


def insert_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the definitions of both programs' settings put in."""
    definitions = dict(schema["definitions"])
    for side, settings in SIDES.items():
        definitions[f"{side}Settings"], definitions[f"{side}SettingsFromSecrets"] = define_settings(settings)
    return {**schema, "definitions": definitions}


def write_schema() -> None:
    """Brings `values.schema.json` up to the programs."""
    SCHEMA.write_text(format_schema(insert_settings(json.loads(SCHEMA.read_text()))))


def format_schema(schema: dict[str, Any]) -> str:
    """As it is kept."""
    return json.dumps(schema, indent=2) + "\n"


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _is_secret(told: dict[str, Any]) -> bool:
    return any(choice.get("format") == "password" for choice in (told, *told.get("anyOf", ())))


def _simplify(told: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """One setting: references resolved, `or null` left out (a setting that is not given is not there)."""
    if "$ref" in told:
        return {"enum": shared[told["$ref"].rpartition("/")[2]]["enum"]}
    choices = [choice for choice in told.get("anyOf", ()) if choice.get("type") != "null"]
    kept = {key: told[key] for key in _KEPT if key in told}
    if choices:
        # Several choices are kinds of text (addresses of IPv4 and IPv6).
        simple = [_simplify(choice, shared) for choice in choices]
        kept |= simple[0] if len(simple) == 1 else {"type": simple[0]["type"]}
    if "items" in kept:
        kept["items"] = _simplify(kept["items"], shared)
    return kept
