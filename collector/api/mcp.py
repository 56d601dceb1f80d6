"""`/mcp/servers`: servers of the Model Context Protocol, what they offer and who uses it."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, OptionalTime, Time
from collector.inventory.endpoints.endpoint import AuthenticationLevel
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.filters import SpanParameters
from collector.inventory.mcp import McpInventory, McpKind, McpServerQuery, McpTransport


class McpArgumentModel(Model):
    """An argument of a tool or prompt, as the server describes it."""

    name: str = Field(description="A pattern such as `{uuid}` where the name looks like a value.", examples=["city"])
    type: str = Field(description="Type of JSON; empty of several or none.", examples=["string"])
    is_required: bool


class McpItemModel(Model):
    """A tool, prompt or resource that the server lists."""

    kind: McpKind
    id: str = Field(description="Keyed hash of the name, of resources of the URI.")
    name: str = Field(description="Empty where it looks like a value.", examples=["get_forecast"])
    arguments: tuple[McpArgumentModel, ...]
    is_read_only: bool = Field(description="The server says so of a tool, as in the next two. Nobody checked it.")
    is_destructive: bool
    is_open_world: bool
    description_pin: str = Field(description="Keyed hash of title, description and annotations.")
    schema_pin: str = Field(description="Keyed hash of the schemas of arguments and result.")
    sampled_calls: int
    sampled_errors: int
    clients: int = Field(description="Consumers that the samples show.")
    first_seen: OptionalTime
    last_seen: OptionalTime = Field(description="When the server listed it last.")


class McpUseModel(Model):
    """Sampled calls of one consumer to one tool or prompt."""

    consumer: str = Field(examples=["workload:shop/agent"])
    kind: McpKind
    item_id: str
    name: str = Field(description="Empty where the server did not list it, or it looks like a value.")
    sampled_calls: int
    sampled_errors: int
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
    endpoint_ids: tuple[str, ...] = Field(description="Its endpoints, most called first.")
    first_seen: Time
    last_seen: Time


class McpServerDetailModel(McpServerModel):
    """A server with what it lists and who uses it."""

    key_id: int = Field(description="The installation key of the hashes.")
    items: tuple[McpItemModel, ...]
    uses: tuple[McpUseModel, ...] = Field(description="Most calls first.")


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

    @router.get("/servers/{server_id}", summary="Show one MCP server")
    def get_mcp_server(server_id: str, parameters: Annotated[SpanParameters, Query()]) -> McpServerDetailModel:
        """Its tools, prompts and resources with the shape of their arguments, and who uses them."""
        return McpServerDetailModel.model_validate(servers.find_server(server_id, parameters, clock()))

    return router
