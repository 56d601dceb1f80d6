"""What the API says of blocks, and what it takes."""

from typing import Annotated, Any

from pydantic import Field

from collector.alerts.alert import AlertKind
from collector.api.base_model import Model, OptionalTime, Ratio, Time
from collector.api.parameters import ActionBody, Body, Items, Text, Word
from collector.respond.block import CLUSTERS_MAX, SECONDS_MAX, SECONDS_MIN, BlockState
from collector.respond.ladder import ENDPOINTS_MAX, Step

_CONSUMER = "An address, a network, or a consumer as in /consumers: address:.., credential:.., principal:.."

_Cluster = Annotated[Text, Field(min_length=1, max_length=253)]
_CLUSTERS: Any = Field(default=(), max_length=CLUSTERS_MAX, description="As sensors name them; none: all. `-`: hosts.")


class NodeStatusModel(Model):
    """One block at one node."""

    node: str
    is_enforced: bool
    reason: str = Field(description="Why it is not enforced there.")
    stopped_connections: int
    stopped_bytes: int
    failed_resets: int = Field(description="Connections whose packets are dropped and that could not be reset.")
    spared_requests: int = Field(description="Let through: from addresses never blocked, or on shared connections.")
    first_stop_at: OptionalTime


class BlockModel(Model):
    """One client that is stopped, was, or is proposed to be."""

    id: str
    consumer: str
    state: BlockState
    services: tuple[str, ...] = Field(description="Where it is stopped; none: everywhere.")
    clusters: tuple[str, ...] = Field(description="Where it holds; none: in all. `-`: hosts outside of any.")
    seconds: int
    reason: str
    alert_id: str
    proposed_by: str
    proposed_at: Time
    approved_by: str
    began_at: OptionalTime
    expires_at: OptionalTime
    ended_by: str
    ended_at: OptionalTime
    is_confirmed: bool
    stopped_connections: int
    stopped_bytes: int
    nodes: tuple[NodeStatusModel, ...]


class EnforcingNodeModel(Model):
    """Whether a node enforces anything."""

    node: str
    is_enabled: bool
    reason: str


class BlockListModel(Model):
    """All blocks, the newest first."""

    items: tuple[BlockModel, ...]
    nodes: tuple[EnforcingNodeModel, ...] = Field(description="What each sensor's own settings and switch say.")
    is_four_eyes: bool


class HitModel(Model):
    """A name and its calls in the last 24 hours."""

    name: str
    calls: int


class PreviewModel(Model):
    """Whom a block would have stopped in the last 24 hours."""

    target: str
    calls: int
    share: Ratio = Field(description="Of all calls at servers.")
    clients: tuple[HitModel, ...] = Field(description="Principals and credentials, most calls first; at most 20.")
    clients_total: int
    endpoints: tuple[HitModel, ...]
    clusters: tuple[HitModel, ...] = Field(description="Where it called, also beyond those asked for.")
    shared_addresses: tuple[HitModel, ...] = Field(description="From where others call too, with the others' calls.")
    first_seen: OptionalTime
    needs_confirmation: str = Field(description="Why `is_confirmed` is needed; empty where it is not.")
    notes: tuple[str, ...]


class AuditEntryModel(Model):
    """One line of the audit log."""

    time: Time
    by: str
    action: str
    block_id: str
    target: str
    why: str


class AuditListModel(Model):
    """The newest first."""

    items: tuple[AuditEntryModel, ...]


class RungModel(Model):
    """How far one kind of alert may go by itself."""

    kind: AlertKind
    step: Step
    seconds: int
    endpoints: tuple[str, ...] = Field(description="Where even a client first seen within a day is stopped.")
    set_by: str = Field(description="Empty: nobody has decided.")


class LadderModel(Model):
    """All kinds of alerts."""

    items: tuple[RungModel, ...]


class LiftedModel(Model):
    """How many blocks were lifted."""

    lifted: int


class PreviewBody(Body):
    """Whom to look at."""

    consumer: Text = Field(min_length=1, max_length=600, description=_CONSUMER, examples=["address:203.0.113.7"])
    clusters: Items[_Cluster] = _CLUSTERS


class BlockBody(ActionBody):
    """Whom to stop, where and for how long."""

    consumer: Text = Field(min_length=1, max_length=600, description=_CONSUMER, examples=["address:203.0.113.7"])
    services: Items[Text] = Field(default=(), description="Each [NAMESPACE/]WORKLOAD[:PORT]; none: everywhere.")
    clusters: Items[_Cluster] = _CLUSTERS
    seconds: int = Field(default=3_600, ge=SECONDS_MIN, le=SECONDS_MAX)
    reason: Text = Field(default="", max_length=2_000)
    alert_id: Text = Field(default="", max_length=64)
    is_confirmed: bool = Field(default=False, description="The preview was seen, and others may be hit.")


class RungBody(ActionBody):
    """How far."""

    step: Word[Step]
    seconds: int = Field(default=3_600, ge=SECONDS_MIN, le=SECONDS_MAX)
    endpoints: Items[Text] = Field(default=(), max_length=ENDPOINTS_MAX)
