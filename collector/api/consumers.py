"""/consumers: who calls, what they touched, where they came from, what people call them, and who a token or name is."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import HolderModel, Model, ObjectsModel, Time, with_figures
from collector.api.parameters import NOTE_CHARACTERS_MAX, ActionBody, Body, Items, NoParameters, Word
from collector.api.problem import Problem, hide_input, show
from collector.core.kinds import ConsumerKind
from collector.inventory.consumers.consumer import Consumer, ConsumerDetail, parse_consumer
from collector.inventory.consumers.consumers import ConsumerInventory, ConsumerQuery
from collector.inventory.consumers.identify import (
    ISSUERS_MAX,
    PASTE_CHARACTERS_MAX,
    ConsumerFinder,
    Identification,
)
from collector.inventory.consumers.labels import LABEL_CHARACTERS_MAX, LabelBook
from collector.inventory.filters import SpanParameters, Text
from collector.inventory.query import Since, span_since
from collector.storage.columns import UsedBy


class LabelModel(Model):
    """What people call a consumer."""

    name: str = Field(examples=["nightly export"])
    note: str
    changed_by: str
    changed_at: Time


class ConsumerLabelModel(LabelModel):
    """A label with whose it is; of one that was taken away the name is empty."""

    consumer: str = Field(description="`kind:value`.")


class ConsumerLabelsModel(Model):
    """All labels, by name."""

    items: tuple[ConsumerLabelModel, ...]


class LabelBody(ActionBody):
    """A label for one consumer."""

    consumer: Text = Field(min_length=3, max_length=600, description="`kind:value`, as in /consumers.")
    name: Text = Field(max_length=LABEL_CHARACTERS_MAX, description="What to call it; empty takes the label away.")
    note: Text = Field(default="", max_length=NOTE_CHARACTERS_MAX, description="What else to know, such as the owner.")


@with_figures(UsedBy.CONSUMERS)
class ConsumerModel(ObjectsModel):
    """One consumer over all endpoints."""

    id: str = Field(description="`kind:value`.", examples=["address:192.0.2.7"])
    kind: ConsumerKind
    value: str = Field(description="Keyed hash of a principal or credential; else the address or workload itself.")
    principal_kind: str = Field(
        description="Where a principal's name came from; empty for other kinds.", examples=["jwt_subject"]
    )
    key_id: int = Field(
        description="Installation key that a principal or credential was hashed under; 0 for other kinds. After a "
        "rotation of the key the same caller is another consumer."
    )
    endpoints: int
    calls: int
    calls_per_second: float = Field(description="Over the span, or since the first call where that is later.")
    errors: int
    denied: int = Field(description="Answered 401 or 403.")
    addresses: int = Field(description="Distinct client addresses it came from.")
    first_seen: Time
    last_seen: Time
    holders: tuple[HolderModel, ...] = Field(
        description="Who held an address while it called; one unless it was given away meanwhile."
    )
    label: LabelModel | None = Field(description="What people call it.")


class CallerModel(Model):
    """Calls from one Pod, node or Service; `holder` null: from addresses that several held at the time, or nobody."""

    holder: HolderModel | None
    addresses: tuple[str, ...]
    calls: int


class ConsumerPageModel(Model):
    """One page of consumers."""

    items: tuple[ConsumerModel, ...]
    next_cursor: str | None
    total: int


class ConsumerEndpointModel(ObjectsModel):
    """One endpoint that a consumer touched."""

    endpoint_id: str
    method: str
    host: str
    template: str
    calls: int
    errors: int
    first_seen: Time
    last_seen: Time


class ConsumerDetailModel(ConsumerModel):
    """One consumer with what it touched and where it came from."""

    touched: tuple[ConsumerEndpointModel, ...]
    calls_by_service: dict[str, int]
    calls_by_credential: dict[str, int] = Field(
        description="By kind of credential; a call with two kinds counts for both."
    )
    calls_by_address: dict[str, int]
    calls_by_workload: dict[str, int]
    calls_by_software: dict[str, int] = Field(
        description="By client software: a keyed hash of the shape of its heads, after its name where it is well "
        "known. Of minutes, which are kept for 48 h; empty for longer times."
    )
    callers: tuple[CallerModel, ...] = Field(description="Who called by what Kubernetes knows; empty without it.")


class IdentifyBody(Body):
    """What was pasted. Nothing of it is kept, and no error repeats it."""

    value: str = Field(
        min_length=1,
        max_length=PASTE_CHARACTERS_MAX,
        description="A token, API key, cookie, header line, user, subject or e-mail address.",
    )
    issuers: Items[Text] = Field(
        default=(),
        max_length=ISSUERS_MAX,
        description="Of a subject or client of a JWT: who may have issued it, exactly as its `iss` says. Hosts of "
        "issuers that were seen are tried without this.",
        examples=[["https://id.example/realms/shop"]],
    )
    since: Word[Since] = Field(default=Since.QUARTER, description="How far back to look.")


class IdentifiedModel(ConsumerModel):
    """A consumer whose calls carried the value."""

    forms: tuple[str, ...] = Field(description="What the value was in them.", examples=[["subject of the JWT"]])


class CandidateModel(Model):
    """What the value is called where it is sent in this form."""

    id: str = Field(description="`kind:value`.", examples=["principal:9a3c0d4411f0be72"])
    form: str = Field(examples=["token after Bearer"])
    key_id: int = Field(description="Installation key of the hash.")


class IdentificationModel(Model):
    """Who the value is."""

    items: tuple[IdentifiedModel, ...] = Field(description="Consumers with calls in the span, busiest first.")
    candidates: tuple[CandidateModel, ...] = Field(
        description="All names that were looked up: each form under each installation key that is kept."
    )


def build_consumer_routes(
    *, consumers: ConsumerInventory, finder: ConsumerFinder, labels: LabelBook, clock: Callable[[], float]
) -> APIRouter:
    """Routes that read the inventory of consumers, name them and find them."""
    router = APIRouter(prefix="/consumers", tags=["inventory"])

    @router.get("", summary="List consumers")
    def list_consumers(query: Annotated[ConsumerQuery, Query()]) -> ConsumerPageModel:
        """Everyone who called within the span: named by principal, else credential, else client address, else client
        workload, unless the setting `consumer_order` says otherwise."""
        page = consumers.list_consumers(query, query.find_span(clock()))
        items = tuple(ConsumerModel.model_validate(_flatten(item)) for item in page.items)
        return ConsumerPageModel(items=items, next_cursor=page.next_cursor, total=page.total)

    @router.post("/identify", summary="Find the consumer behind a token or name")
    @hide_input
    def identify_consumer(body: IdentifyBody) -> IdentificationModel:
        """Hashes the value as sensors do, in every form and under every installation key that is kept, and looks the
        hashes up. The value reaches no log, table, file or error."""
        found = finder.identify(body.value, body.issuers, span_since(body.since, clock()))
        return view_identification(found)

    @router.get("/labels", summary="List the labels of consumers")
    def list_labels(_: Annotated[NoParameters, Query()]) -> ConsumerLabelsModel:
        """All of them, also of consumers that made no call lately."""
        return ConsumerLabelsModel.model_validate({"items": labels.list_labels()})

    @router.post("/labels", summary="Give a consumer a label")
    def set_label(body: LabelBody) -> ConsumerLabelModel:
        """In place of the one before. Alerts, notifications, lists and pages show it beside the consumer's id."""
        name = parse_consumer(body.consumer)
        return ConsumerLabelModel.model_validate(labels.put(name, name=body.name.strip(), note=body.note, by=body.by))

    @router.get("/{consumer_id:path}", summary="Show one consumer")
    def get_consumer(consumer_id: str, parameters: Annotated[SpanParameters, Query()]) -> ConsumerDetailModel:
        """One consumer, the endpoints it touched, and where it came from. A workload's name may hold slashes."""
        detail = consumers.get_consumer(parse_consumer(consumer_id), parameters.find_span(clock()))
        if detail is None:
            raise Problem(
                404,
                f"No call by a consumer {show(consumer_id)} {parameters.word_span()}; "
                "look it up in /api/v1/consumers or ask for a longer span.",
            )
        return view_consumer_detail(detail)

    return router


def view_identification(found: Identification) -> IdentificationModel:
    """As the API gives it."""
    return IdentificationModel(
        items=tuple(
            IdentifiedModel.model_validate({**_flatten(one.consumer), "forms": one.forms}) for one in found.found
        ),
        candidates=tuple(CandidateModel(id=one.name.id, form=one.words, key_id=one.key_id) for one in found.candidates),
    )


def view_consumer_detail(detail: ConsumerDetail) -> ConsumerDetailModel:
    """The consumer's own fields, what it touched and where it came from."""
    return ConsumerDetailModel.model_validate(
        {
            **_flatten(detail.consumer),
            "touched": tuple(ConsumerEndpointModel.model_validate(item) for item in detail.endpoints),
            "calls_by_service": detail.services,
            "calls_by_credential": detail.credentials,
            "calls_by_address": detail.addresses,
            "calls_by_workload": detail.workloads,
            "calls_by_software": detail.softwares,
            "callers": tuple(CallerModel.model_validate(caller) for caller in detail.callers),
        }
    )


def _flatten(consumer: Consumer) -> dict[str, object]:
    """Attributes by name, `name` taken apart."""
    fields = {name: getattr(consumer, name) for name in Consumer.__dataclass_fields__ if name != "name"}
    return {**fields, "id": consumer.name.id, "kind": consumer.name.kind, "value": consumer.name.value}
