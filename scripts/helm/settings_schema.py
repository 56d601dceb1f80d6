"""The programs' settings as JSON schema for the chart, so that `helm install` refuses what a program would refuse.

Takes the settings classes (pydantic), gives the definitions of `values.schema.json` that hold them: what is secret may
only be a key of a Secret. Draft 7, without what Helm does not check (formats, titles).
"""

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from collector.core.config import CollectorSettings
from common.settings import ProgramSettings
from sensor.core.config import SensorSettings

CHART: Final = Path(__file__).parents[2] / "deploy" / "helm" / "apidae"
SCHEMA: Final = CHART / "values.schema.json"
SIDES: Final[dict[str, type[ProgramSettings]]] = {"sensor": SensorSettings, "collector": CollectorSettings}
_KEPT: Final = (
    "description",
    *("type", "enum", "const", "pattern", "items"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"),
)


def define_settings(settings: type[BaseModel]) -> dict[str, Any]:
    """The schema of the settings as values; a secret is a key of a Secret."""
    whole = settings.model_json_schema()
    schema = _simplify(whole, whole.get("$defs", {}))
    del schema["required"], schema["description"]  # The chart sets what a program needs.
    return schema


def insert_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the definitions of both programs' settings put in."""
    defined = {f"{side}Settings": define_settings(settings) for side, settings in SIDES.items()}
    return {**schema, "definitions": {**schema["definitions"], **defined}}


def write_schema() -> None:
    """Brings `values.schema.json` up to the programs."""
    SCHEMA.write_text(format_schema(insert_settings(json.loads(SCHEMA.read_text()))))


def format_schema(schema: dict[str, Any]) -> str:
    """As it is kept."""
    return json.dumps(schema, indent=2) + "\n"


def _simplify(told: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """One setting: references resolved, `or null` left out (a setting that is not given is not there)."""
    if any(choice.get("format") == "password" for choice in (told, *told.get("anyOf", ()))):
        return {"$ref": "#/definitions/secretKey"}
    if "$ref" in told:
        found = _simplify(shared[told["$ref"].rpartition("/")[2]], shared)
        # A choice is described where it is a setting.
        words = " ".join(told.get("description", "").split())
        return {"description": words, **found} if "enum" in found and words else found
    if "oneOf" in told:
        return {"oneOf": [_simplify(choice, shared) for choice in told["oneOf"]]}
    kept: dict[str, Any] = {key: told[key] for key in _KEPT if key in told}
    if "enum" in kept:
        return {"enum": kept["enum"]}
    if "description" in kept:
        kept["description"] = " ".join(kept["description"].split())
    choices = [choice for choice in told.get("anyOf", ()) if choice.get("type") != "null"]
    if choices:
        # Several choices are kinds of text (addresses of IPv4 and IPv6).
        simple = [_simplify(choice, shared) for choice in choices]
        kept |= simple[0] if len(simple) == 1 else {"type": simple[0]["type"]}
    if "items" in kept:
        kept["items"] = _simplify(kept["items"], shared)
    if "properties" in told:
        properties = {name: _simplify(one, shared) for name, one in told["properties"].items()}
        kept |= {"additionalProperties": False, "required": told.get("required", []), "properties": properties}
    return kept
