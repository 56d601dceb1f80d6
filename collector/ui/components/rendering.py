"""The page's templates (autoescaped Jinja2, strict about names), and what the page's routes share: own paths and forms.

The words of `collector.ui.components.wording` are filters.
"""

from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from collector.alerting.wording import format_minute
from collector.api.permissions import is_permitted
from collector.api.problem import Problem
from collector.core.rates import word_measure, word_rate
from collector.inventory.endpoints.exposure import describe
from collector.inventory.naming import name_service
from collector.ui.components import wording

FIELDS_MAX = 20


def build_templates() -> Environment:
    """The environment; every value is escaped, for hosts and paths come from whoever calls."""
    templates = Environment(
        loader=PackageLoader("collector", "ui"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_show,
    )
    templates.globals["may"] = is_permitted
    templates.filters.update(
        count=wording.word_count,
        cost=wording.word_cost,
        distinct=wording.word_distinct,
        measure=word_measure,
        rate=partial(word_rate, unit=""),
        size=wording.word_size,
        milliseconds=wording.word_milliseconds,
        age=mark_age,
        at=mark_time,
        span=wording.word_span,
        left_days=wording.word_left_days,
        percent=wording.word_percent,
        kinds=wording.word_kinds,
        main_kind=wording.word_main_kind,
        kind_shares=wording.word_kind_shares,
        protocol_name=wording.word_protocol,
        protocol_meaning=wording.word_protocol_meaning,
        data_kind=wording.word_data_kind,
        data_groups=wording.group_data,
        service_name=name_service,
        utc=format_minute,
        exposure_fact=describe,
        prose=mark_code,
    )
    return templates


def mark_code(text: str) -> Markup:
    """Text of our own whose parts between backticks are code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def mark_age(seconds: float) -> Markup:
    """An age in words, as content of an element; the script has it count on."""
    return Markup('<span data-age="{:.0f}">{}</span>').format(max(seconds, 0.0), wording.word_age(seconds))


def mark_time(seconds: float) -> Markup:
    """A time (unix seconds) in UTC; the script shows it in the viewer's zone."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{:%Y-%m-%dT%H:%M:%SZ}">{:%Y-%m-%d %H:%M:%S} UTC</time>').format(moment, moment)


def _show(value: Any) -> Any:
    """What an expression prints; what the templates themselves wrote is markup and stays."""
    return wording.show_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def own_path(text: str) -> str:
    """A path on this collector, or the front page: never another site's address."""
    is_own = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if is_own else "/"


async def read_form(request: Request) -> dict[str, str]:
    """Fields of an urlencoded form; the last of a name counts. Raises a 422 problem when there are too many."""
    return {name: values[-1] for name, values in (await read_fields(request, FIELDS_MAX)).items()}


async def read_fields(request: Request, fields_max: int) -> dict[str, list[str]]:
    """All values of an urlencoded form by name. Raises a 422 problem when there are too many."""
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return parse_qs(body, keep_blank_values=True, max_num_fields=fields_max)
    except ValueError:
        raise Problem(422, f"The form has more than {fields_max} fields; send only the page's own.") from None
