"""`/mcp/servers` and `/mcp/tools`: servers of the Model Context Protocol, what they offer and who uses it."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, OptionalTime, Time
from collector.inventory.endpoints.endpoint import AuthenticationLevel
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.filters import SpanParameters
from collector.inventory.mcp import McpInventory, McpServerQuery, McpToolQuery
from collector.inventory.mcp_states import McpKind, McpTransport


class McpArgumentModel(Model):
    """An argument of a tool or prompt, as the server describes it."""

    name: str = Field(description="A pattern such as `{uuid}` where the name looks like a value.", examples=["city"])
    type: str = Field(description="Type of JSON; empty of several or none.", examples=["string"])
    is_required: bool


class McpPinModel(Model):
    """Keyed hashes of texts. Only those of one key and one version are compared."""

    key_id: int = Field(description="The installation key of the hashes.")
    version: int = Field(description="How they are made.")
    description_hash: str = Field(description="Of all words but those of the schemas.")
    schema_hash: str = Field(description="Of the schemas of arguments and result.")
    first_seen: OptionalTime
    last_seen: OptionalTime


class McpItemModel(Model):
    """A tool, prompt or resource that the server lists, or its instructions."""

    kind: McpKind
    id: str = Field(description="Keyed hash of the name, of resources of the URI.")
    name: str = Field(description="Empty where it looks like a value.", examples=["get_forecast"])
    arguments: tuple[McpArgumentModel, ...]
    is_listed: bool = Field(description="False where a whole list of the server came later, and was without it.")
    is_read_only: bool = Field(description="The server says so of a tool. Nobody checked it.")
    is_destructive: bool | None = Field(description="The same; null where it does not say, as in the next.")
    is_open_world: bool | None
    may_destroy: bool = Field(description="As the protocol reads what is not said: a tool may, unless it only reads.")
    pins: tuple[McpPinModel, ...] = Field(description="All that any sensor saw, newest first.")
    sampled_calls: int
    sampled_errors: int | None = Field(description="Null where no answer was read.")
    clients: int = Field(description="Consumers that the samples show.")
    consumers: tuple[str, ...] = Field(description="The same by name, most calls first.")
    changed_at: OptionalTime = Field(description="When its newest text was listed first; null: it had no other one.")
    first_seen: OptionalTime
    last_seen: OptionalTime = Field(description="When the server listed it last.")


class McpUseModel(Model):
    """Sampled calls of one consumer to one tool or prompt."""

    consumer: str = Field(examples=["workload:shop/agent"])
    kind: McpKind
    item_id: str
    name: str = Field(description="Empty where the server did not list it, or it looks like a value.")
    sampled_calls: int
    sampled_errors: int | None = Field(description="Null where no answer was read.")
    last_seen: Time


class McpServerModel(Model):
    """One path of a service at which a server answers."""

    id: str
    name: str = Field(description="As the server names itself; empty where that looks like a value.")
    version: str
    protocol_versions: tuple[str, ...] = Field(examples=[["2025-06-18"]])
    transports: tuple[McpTransport, ...]
    cluster: str
    service: str = Field(examples=["shop/weather:8000"])
    path: str = Field(examples=["/mcp"])
    tools: int
    prompts: int
    resources: int
    clients: int = Field(description="Consumers that sampled calls of tools and prompts show.")
    sessions: int = Field(description="How often clients began to use it; an estimate.")
    calls: int
    authentication: AuthenticationLevel
    exposure: ExposureLevel
    risk: int | None = Field(description="Of its riskiest endpoint; null where none was computed yet.")
    endpoint_ids: tuple[str, ...] = Field(description="Its endpoints that were called, most called first.")
    left_out: int = Field(description="What it lists and sensors have no room for.")
    unread_at: OptionalTime = Field(description="A list was not read to its end then, nor since; null: never.")
    first_seen: Time
    last_seen: Time


class McpServerDetailModel(McpServerModel):
    """A server with what it lists and who uses it."""

    items: tuple[McpItemModel, ...]
    uses: tuple[McpUseModel, ...] = Field(description="Most calls first.")


class McpToolServerModel(Model):
    """The server that lists a tool."""

    id: str
    name: str
    cluster: str
    service: str = Field(examples=["shop/weather:8000"])
    path: str = Field(examples=["/mcp"])
    authentication: AuthenticationLevel
    exposure: ExposureLevel


class McpToolModel(Model):
    """A tool, prompt or resource with its server."""

    server: McpToolServerModel
    item: McpItemModel


class McpToolPageModel(Model):
    """One page of what all servers offer, by service, path, kind and name."""

    items: tuple[McpToolModel, ...]
    next_cursor: str | None
    total: int


class McpServerPageModel(Model):
    """One page of servers, by service and path."""

    items: tuple[McpServerModel, ...]
    next_cursor: str | None
    total: int


def build_mcp_routes(*, servers: McpInventory, clock: Callable[[], float]) -> APIRouter:
    """Routes that read servers."""
    router = APIRouter(prefix="/mcp", tags=["inventory"])

    @router.get("/servers", summary="List MCP servers")
    def list_mcp_servers(query: Annotated[McpServerQuery, Query()]) -> McpServerPageModel:
        """Servers of the Model Context Protocol that were called in the span, with how much they offer."""
        return McpServerPageModel.model_validate(servers.list_servers(query, query.find_span(clock())))

    @router.get("/tools", summary="List tools of all MCP servers")
    def list_mcp_tools(query: Annotated[McpToolQuery, Query()]) -> McpToolPageModel:
        """Tools, prompts and resources of every server that was called in the span, with who uses them."""
        return McpToolPageModel.model_validate(servers.list_tools(query, query.find_span(clock())))

    @router.get("/servers/{server_id}", summary="Show one MCP server")
    def get_mcp_server(server_id: str, parameters: Annotated[SpanParameters, Query()]) -> McpServerDetailModel:
        """Its tools, prompts and resources with the shape of their arguments, and who uses them."""
        return McpServerDetailModel.model_validate(servers.find_server(server_id, parameters, clock()))

    return router
