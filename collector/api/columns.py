"""The columns of each list where it is a table: on the command line and in what is exported.

A column is a dotted place in an item of the API. This module loads nothing of the server, so that a command starts at
once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# What a spreadsheet takes for a formula (OWASP, CSV injection), in full width too.
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, the dotted place of its value in an item, and its turn to go where a terminal is too
    narrow: the highest first, 0 never. `estimate` is the place of what says that the value is one.
    """

    name: str
    place: str
    rank: int = 0
    estimate: str = ""


def describe_columns(text: str) -> tuple[Column, ...]:
    """Columns as words: `name=place~estimate/rank`, where a place equal to the name, no estimate and rank 0 are left
    out."""
    columns = []
    for word in text.split():
        named, _, rank = word.partition("/")
        placed, _, estimate = named.partition("~")
        name, _, place = placed.partition("=")
        columns.append(Column(name, place or name, int(rank or 0), estimate))
    return tuple(columns)


def pick(item: Mapping[str, Any], place: str) -> Any:
    """The value at a dotted place, several in one text, of counts their names, of a service `namespace/workload`; None
    where it is not there."""
    value: Any = item
    for name in place.split("."):
        if isinstance(value, list):
            value = [one.get(name) for one in value if isinstance(one, Mapping)]
        else:
            value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and "workload" in value:
        return "/".join(filter(None, (value.get("namespace"), value["workload"])))
    return ", ".join(map(str, value)) if isinstance(value, list | Mapping) else value


def write_cell(value: Any) -> Any:
    """A CSV cell that no spreadsheet runs and no terminal obeys: text that starts like a formula, behind spaces too,
    gets an apostrophe; numbers stay numbers."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = clean_text(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA_STARTS) else text


def clean_text(text: str) -> str:
    """Without control characters, which would steer the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


# By the route that lists them.
LIST_COLUMNS: Final[Mapping[str, tuple[Column, ...]]] = {
    "endpoints": describe_columns(
        "id method host/8 template operation=operation.name/1 service/1 calls~is_estimated 2xx=status.2xx/5 "
        "4xx=status.4xx/4 5xx=status.5xx/3 not_read=status.not_read/6 p95_ms=latency_ms.p95/2 "
        "credentials=authentication.level consumers/1 tier/6 last_seen/7 protocols/5 "
        "data=bodies.data_classes/3 records=bodies.records_returned/6 exposure=exposure.level/4 "
        "spec=spec.status/6 kind=kubernetes.kind/8 image=container_image_name/8 "
        "image_tags=container_image_tags/9 risk=risk.score/2 credential_kinds=authentication.kinds/9"
    ),
    "consumers": describe_columns(
        "consumer=id label=label.name/1 endpoints calls errors/1 denied/1 objects~has_estimated_objects "
        "held_by=holders.label/3 last_seen/2"
    ),
    "exposure": describe_columns(
        "cluster/4 namespace workload port exposure=exposure.level reasons=exposure.reasons/1 since=exposure.since/3"
    ),
    "alerts": describe_columns(
        "id state/1 severity confidence/2 kind/5 title service/6 consumer/8 nodes/5 opened_at observed_rate/3 "
        "expected_rate/4 silence=silence.kind/2 silenced_by=silence.by/7 silenced_at=silence.at/8 "
        "until=silence.until/7 reason=silence.reason/7"
    ),
    "findings": describe_columns(
        "id severity state/1 title service/1 method/2 host/5 template=url_template why/3 owasp/4 first_seen/6 "
        "by=changed_by/7 note/7"
    ),
    "incidents": describe_columns("id state/1 severity actor/2 title alerts/3 risks/4 opened_at"),
    "coverage/ports": describe_columns(
        "node/3 role/8 port=service.port service address/7 protocol reading connections/2 "
        "bytes/4 calls/5 estimated_calls/5 joined_late/9 lost_calls/9 first_seen/10 reason/1"
    ),
    "audit": describe_columns(
        "number time by action target why/2 before/1 after/1 way/3 block_id/6 is_erased/6 hash/6"
    ),
    "mcp/servers": describe_columns(
        "id/3 name service path/1 transports/4 protocol_versions/6 version/5 tools prompts/7 resources/7 clients calls "
        "authentication/1 exposure/1 last_seen/2"
    ),
    "mcp/tools": describe_columns(
        "server=server.id/4 server_name=server.name/2 service=server.service path=server.path/1 kind=item.kind "
        "name=item.name id=item.id/8 arguments=item.arguments.name/3 may_destroy=item.may_destroy/1 "
        "listed=item.is_listed/5 sampled_calls=item.sampled_calls/2 errors=item.sampled_errors/6 "
        "clients=item.clients/2 consumers=item.consumers/7 exposure=server.exposure/3 "
        "authentication=server.authentication/3 changed_at=item.changed_at/4 last_seen=item.last_seen/6"
    ),
    "models": describe_columns(
        "id/9 caller held_by/7 consumers/8 provider operation/3 model response_models/7 destination server/1 cluster/8 "
        "calls errors/3 streamed=streamed_calls/6 counted=counted_calls/6 input_tokens/1 output_tokens/1 "
        "cache_read_tokens/7 cache_creation_tokens/8 reasoning_tokens/8 cost/2 priced=priced_calls/8 "
        "in_prompts=prompt_classes/2 in_answers=answer_classes/4 url_key_calls/7 authentication/7 exposure/7 "
        "last_seen/5"
    ),
    "services": describe_columns(
        "service cluster/7 namespace/6 endpoints calls errors/1 p95_ms/2 risk findings/1 exposure/1 last_seen/4"
    ),
}
