"""The page's templates: autoescaped Jinja2, strict about names, with the words of `collector.ui.wording` as filters."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from collector.inventory.endpoint import name_service
from collector.ui import wording


def build_templates() -> Environment:
    """The environment; every value is escaped, for hosts and paths come from whoever calls."""
    templates = Environment(
        loader=PackageLoader("collector.ui"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        count=wording.word_count,
        rate=wording.word_rate,
        size=wording.word_size,
        milliseconds=wording.word_milliseconds,
        age=wording.word_age,
        percent=wording.word_percent,
        kinds=wording.word_kinds,
        service_name=name_service,
    )
    return templates


def render(templates: Environment, name: str, values: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    """One page."""
    return HTMLResponse(
        templates.get_template(name).render(**values), status_code=status, headers={"vary": "HX-Request"}
    )
