"""What is fuzzed of what others put on a node and into answers: programs, tables of sockets, descriptions of APIs."""

import json
from collections.abc import Callable
from typing import Final

from collector.specs.document import SpecError, read_spec
from sensor.capture.tls.elf import READ_BYTES_MAX, WORK_MAX
from sensor.capture.tls.finder import search_content
from sensor.core.printable import NAME_BYTES_MAX
from sensor.describe.schemas.descriptions import OUTLINE_BYTES_MAX, write_outline
from sensor.enrich.hidden import MAX_LISTENERS, list_unix_listeners
from sensor.enrich.sockets import parse_unix_sockets
from tests.sensor.capture.tls.contents import make_source


def fuzz_program(data: bytes) -> None:
    """A program of anybody's: places for probes that lie in it and begin as was read, or none, for bounded work."""
    found = search_content(make_source(data), "libssl.so.3")
    assert found.work <= WORK_MAX + READ_BYTES_MAX
    for site in (*found.sites.sites, *found.sites.plain):
        assert site.code and data[site.offset : site.offset + len(site.code)] == site.code
    assert not (found.sites.sites and found.sites.reason)


def fuzz_unix_sockets(data: bytes) -> None:
    """The kernel's answer, in which names are as users like them."""
    found = list_unix_listeners(parse_unix_sockets(data))
    assert len(found) <= MAX_LISTENERS
    assert all(len(one.path.encode()) <= NAME_BYTES_MAX and one.path.isprintable() for one in found)
    assert all(one.open_connections >= 0 for one in found)


def fuzz_description(data: bytes) -> None:
    """What a service says of itself: outlined in the sensor and read in the collector, or refused in words."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    outline = write_outline(document)
    if outline is None:
        return
    assert len(outline) <= OUTLINE_BYTES_MAX
    try:
        read_spec(outline)
    except SpecError as error:
        assert str(error)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "program": fuzz_program,
    "unix_sockets": fuzz_unix_sockets,
    "description": fuzz_description,
}
