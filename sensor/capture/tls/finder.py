"""Finds the TLS library in a file and the places for its probes: where its functions begin and return.

Takes an open file and gives `Sites` (plain data). The contents of a file never make it raise. Nothing is kept of one
file for another, so what is found is true of the file's own bytes. `sensor.capture.tls.elf` bounds the cost.

Go programs, also stripped ones, have the function table `.gopclntab` for their own stack traces. Its layout is that of
runtime/symtab.go (`pcHeader`, `functab`, `_func`) of Go 1.18 and later, except for the magic number. amd64 has the
register convention since 1.17. Other layouts give nothing.

rustls 0.23 is found by symbols: the two methods that see all plain text, and where a connection is dropped. Rust's
names carry a hash of the build, in two manglings (rustc's legacy one, and v0 of RFC 2603). Before 0.23 the methods have
other names, and nothing is found.
"""

import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.ma  # numpy imports it at its first use, and a confined process opens no file.
import re2

from sensor.capture.tls import openssl as boring
from sensor.capture.tls.code import (
    C_RESULTS,
    GO_ARGUMENTS,
    GO_RESULTS,
    Place,
    find_beginning,
    find_inner,
    find_only_call,
    find_returns,
)
from sensor.capture.tls.elf import (
    PLACE_WORK,
    WINDOW_BYTES,
    Content,
    Elf,
    ElfError,
    FileSource,
    Function,
    Section,
)
from sensor.capture.tls.openssl import (
    NO_TLS,
    Site,
    Sites,
    find_boring_functions,
    find_read_sites,
    find_write_sites,
    make_site,
)

# Go 1.18 and 1.19; 1.20 and later.
_MAGICS: Final = (0xFFFFFFF0, 0xFFFFFFF1)
_HEADER: Final = struct.Struct("<IHBB8Q")
_ENTRY: Final = np.dtype([("start", "<u4"), ("description", "<u4")])
# Functions of one program; a large one has 200,000.
MAX_FUNCTIONS: Final = 2_000_000
_SECTIONS: Final = (".gopclntab", ".data.rel.ro.gopclntab")


def is_go(elf: Elf) -> bool:
    """Whether a program was made by Go."""
    return any(name in elf.sections for name in (*_SECTIONS, ".go.buildinfo"))


def find_go_functions(elf: Elf, names: Collection[str]) -> dict[str, Function]:
    """Those of the names that the program has; none where its table is of another layout. Raises ElfError where it is
    cut."""
    section = next((elf.sections[name] for name in _SECTIONS if name in elf.sections), None)
    if section is None or section.size < _HEADER.size:
        return {}
    magic, _, _, pointer_size, count, _, text, names_at, _, _, _, table_at = _HEADER.unpack(
        elf.content.read(section.offset, _HEADER.size)
    )
    if magic not in _MAGICS or pointer_size != 8 or count > MAX_FUNCTIONS:
        return {}
    if not names_at <= table_at <= section.size - (count + 1) * _ENTRY.itemsize:
        return {}
    text = text or (elf.sections[".text"].address if ".text" in elf.sections else 0)
    texts = {b"\0" + name.encode() + b"\0": name for name in names}
    found = elf.content.find_all(texts, section.offset + names_at, table_at - names_at)
    wanted = {places[0] + 1 - section.offset - names_at: texts[name] for name, places in found.items() if places}
    return _find_named(elf, section, table_at, count, text, wanted) if wanted else {}


def _find_named(
    elf: Elf, section: Section, table_at: int, count: int, text: int, wanted: dict[int, str]
) -> dict[str, Function]:
    """Functions by the offset of their names, which each has in its description: struct _func, its entry and that."""
    table, end = section.offset + table_at, section.offset + section.size
    numbers = {name_at.to_bytes(4, "little"): name for name_at, name in wanted.items()}
    places = elf.content.find_all(numbers, table, end - table)
    described = {at - 4 - table: numbers[number] for number, each in places.items() for at in each}
    starts = np.array([at for at in described if 0 <= at < 1 << 32], np.uint32)
    found: dict[str, Function] = {}
    step = WINDOW_BYTES // _ENTRY.itemsize
    for first in range(0, count, step):
        size = (min(step, count - first) + 1) * _ENTRY.itemsize
        rows = np.frombuffer(elf.content.read(table + first * _ENTRY.itemsize, size), _ENTRY)
        for place in np.flatnonzero(np.isin(rows["description"][:-1], starts)).tolist():
            elf.content.spend(PLACE_WORK)
            start, following = int(rows["start"][place]), int(rows["start"][place + 1])
            name = described[int(rows["description"][place])]
            found[name] = Function(name=name, address=text + start, size=following - start)
    return found


# In all of the names.
_MARK: Final = b"rustls"
_END: Final = r"17h[0-9a-f]{16}E[.\w]*"
_METHODS: Final = {
    name: re2.compile(
        rf"_ZN6rustls12common_state11CommonState{length}{name}{_END}"
        rf"|_RNv\w*6rustls12common_state\w*11CommonState{length}{name}[.\w]*"
    )
    for name, length in (("take_received_plaintext", 23), ("buffer_plaintext", 16))
}
# Of which a program has several: with servers and clients, and a copy in each part of it.
_OTHERS: Final = {
    "hello": re2.compile(
        r"_ZN\d+_\$LT\$rustls\.\.(?:server\.\.hs\.\.ExpectClientHello|client\.\.hs\.\.ExpectServerHello)\$u20\$as[^\x00]*6handle"
        + _END
        + r"|_RNvX\w*6rustls\w*17Expect(?:Client|Server)Hello\w*6handle"
    ),
    "drop": re2.compile(rf"_ZN4core3ptr\d+drop_in_place\$LT\$rustls\.\.common_state\.\.CommonState\$GT\${_END}"),
}
OTHERS_MAX: Final = 8


def find_rust_functions(elf: Elf) -> dict[str, Function]:
    """`take_received_plaintext` and `buffer_plaintext`, both or none; with them `hello 1` and on, which handle the
    other end's first message, and `drop 1` and on."""
    names = elf.find_names(_MARK)
    found: dict[str, Function] = {}
    for name, functions in _find_fitting(elf, names, _METHODS).items():
        if len(functions) != 1:
            return {}
        found[name] = functions[0]
    for name, functions in _find_fitting(elf, names, _OTHERS).items():
        found |= {f"{name} {number}": function for number, function in enumerate(functions[:OTHERS_MAX], 1)}
    return found


def _find_fitting(elf: Elf, names: list[str], patterns: Mapping[str, Any]) -> dict[str, list[Function]]:
    """Functions whose names fit each pattern."""
    fitting = {name: [one for one in names if pattern.fullmatch(one)] for name, pattern in patterns.items()}
    return {name: list(elf.find_functions(each).values()) if each else [] for name, each in fitting.items()}


# A function and what it jumps to: its cold part, and functions that it ends with.
MAX_PARTS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What is attached to a function."""

    program: str
    has_return: bool = True
    arguments: tuple[str, ...] = ("di", "si")  # Registers that the program reads.
    # Where it returns at no emulated place: programs for the call that does its work, by the register of its result.
    inner: Mapping[str, str] = field(default_factory=dict)
    # A function that it calls once, to give what it moved, and the program for that call: it is emulated, returns are
    # not, and the calls that move nothing do not pass it.
    mover: str = ""
    mover_program: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How functions return: registers of results, and the program."""

    results: tuple[str, ...]
    return_program: str


C_CODE: Final = Convention(results=C_RESULTS, return_program="call_return")
RUST_CODE: Final = Convention(results=C_RESULTS, return_program="rust_return")
GO_CODE: Final = Convention(results=GO_RESULTS, return_program="go_return")
OPENSSL: Final[Mapping[str, Probed]] = {
    "SSL_read": Probed(program="openssl_read", inner={"c": "openssl_read_inner"}),
    "SSL_read_ex": Probed(program="openssl_read_ex", arguments=("di", "si", "c")),
    "SSL_write": Probed(program="openssl_write", inner={"c": "openssl_write_ex", "r8": "openssl_write_ex2"}),
    "SSL_write_ex": Probed(program="openssl_write_ex", arguments=("di", "si", "c")),
    "SSL_write_ex2": Probed(program="openssl_write_ex2", arguments=("di", "si", "r8")),
    "SSL_accept": Probed(program="openssl_handshake", has_return=False),
    "SSL_connect": Probed(program="openssl_handshake", has_return=False),
    "SSL_do_handshake": Probed(program="openssl_handshake", has_return=False),
    "SSL_shutdown": Probed(program="session_shutdown", has_return=False),
    "SSL_free": Probed(program="session_free", has_return=False),
}
# What passes the places of `sensor.capture.tls.openssl`.
OPENSSL_READS: Final = ("SSL_read", "SSL_read_ex")
OPENSSL_WRITES: Final = ("SSL_write", "SSL_write_ex", "SSL_write_ex2")
GNUTLS: Final[Mapping[str, Probed]] = {
    "gnutls_record_recv": Probed(program="gnutls_read"),
    "gnutls_record_send": Probed(program="gnutls_write"),
    "gnutls_record_send2": Probed(program="gnutls_write"),
    "gnutls_handshake": Probed(program="handshake", has_return=False),
    "gnutls_bye": Probed(program="session_shutdown", has_return=False),
    "gnutls_deinit": Probed(program="session_free", has_return=False),
}
BORING: Final[Mapping[str, Probed]] = {
    "SSL_read": Probed(program="boring_read"),
    "SSL_write": Probed(program="boring_write"),
}
GO: Final[Mapping[str, Probed]] = {
    "crypto/tls.(*Conn).Read": Probed(
        program="go_read", arguments=GO_ARGUMENTS, mover="runtime.memmove", mover_program="go_copy"
    ),
    # It writes all that it is given, or the connection is over: told where it begins.
    "crypto/tls.(*Conn).Write": Probed(program="go_write", has_return=False, arguments=GO_ARGUMENTS),
    "crypto/tls.(*Conn).Close": Probed(program="go_close", has_return=False, arguments=GO_ARGUMENTS),
}
RUSTLS: Final[Mapping[str, Probed]] = {
    "take_received_plaintext": Probed(program="rust_read", has_return=False),
    "buffer_plaintext": Probed(program="rust_write"),
    **{
        f"{name} {number}": Probed(program=program, has_return=False, arguments=("di",))
        for name, program in (("hello", "handshake"), ("drop", "rust_drop"))
        for number in range(1, OTHERS_MAX + 1)
    },
}
JAVA: Final = "Java"
WITHOUT_AGENT: Final = (
    "Java encrypts in code that it makes as it runs, where probes cannot be. "
    "Where you consent, the Java agent reads it."
)
# Library, why it is not read, the file's name or what is in it.
_UNREAD: Final = (
    (JAVA, WITHOUT_AGENT, "libjvm.so", b""),
    ("NSS", "NSS is not read.", "libssl3.so", b""),
    # What a native image says of how it was made.
    ("GraalVM", "A native image of GraalVM is not read: it takes no agent.", "", b"com.oracle.svm.core.VM="),
    # Where a program panics, or makes an error, it names its source, symbols or not.
    ("rustls", "rustls is read only where the symbols of its version 0.23 remain.", "", b"/rustls-0."),
    ("OpenSSL", "An OpenSSL within a program is not read where its symbols were taken out.", "", b"ssl/ssl_lib.c\0"),
    ("BoringSSL", "The functions of this BoringSSL were not found.", "", boring.SOURCE),
)
# Library, its functions, and those of them without which nothing is read.
_LIBRARIES: Final = (
    ("OpenSSL", OPENSSL, ("SSL_read", "SSL_write")),
    ("GnuTLS", GNUTLS, ("gnutls_record_recv",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a file has, and what it cost to see it."""

    sites: Sites
    work: int  # Units of `sensor.capture.tls.elf`.


def search_file(fd: int, name: str) -> Found:
    """Where an open file is probed; `name` is the file's own. Raises OSError where it cannot be read."""
    return search_content(FileSource(fd), name)


def search_content(source: FileSource, name: str) -> Found:
    """The same of bytes from anywhere."""
    content = Content(source)
    try:
        sites = find_sites(Elf(content), name)
    except ElfError:
        sites = NO_TLS
    return Found(sites=sites, work=content.work)


def find_sites(elf: Elf, name: str) -> Sites:
    """The first library that the file holds; without sites where it is known and not read. Raises ElfError."""
    if is_go(elf):
        movers = [probed.mover for probed in GO.values() if probed.mover]
        functions = find_go_functions(elf, (*GO, *movers))
        if functions.keys() >= GO.keys():
            return _probe(elf, "Go crypto/tls", GO, functions, GO_CODE)
    for library, table, needed in _LIBRARIES:
        if len(elf.find_functions(needed)) == len(needed):
            functions = elf.find_functions(table)
            plain = _probe(elf, library, table, functions, C_CODE)
            return _go_inside(elf, plain, functions) if table is OPENSSL else plain
    functions = find_rust_functions(elf)
    if functions:
        return _probe(elf, "rustls", RUSTLS, functions, RUST_CODE)
    marks = elf.content.find_all({mark for _, _, _, mark in _UNREAD if mark})
    functions = find_boring_functions(elf, marks[boring.SOURCE])
    if functions:
        return _probe(elf, "BoringSSL", BORING, functions, C_CODE)
    for library, reason, file_name, mark in _UNREAD:
        if name == file_name or (mark and marks[mark]):
            return Sites(library=library, reason=reason)
    return NO_TLS


def _go_inside(elf: Elf, plain: Sites, functions: Mapping[str, Function]) -> Sites:
    """With the places where OpenSSL itself moves data, instead of the functions that have it do so."""
    try:
        reads, writes = find_read_sites(elf), find_write_sites(elf)
    except ElfError:
        return plain  # Its frames lead to where there is no code.
    replaced = (OPENSSL_READS if reads else ()) + (OPENSSL_WRITES if writes else ())
    if not replaced:
        return plain
    table = {name: probed for name, probed in OPENSSL.items() if name not in replaced}
    sites = _probe(elf, plain.library, table, functions, C_CODE, inside=(*reads, *writes))
    return replace(sites, plain=plain.sites)


def _probe(
    elf: Elf,
    library: str,
    table: Mapping[str, Probed],
    functions: Mapping[str, Function],
    convention: Convention,
    inside: Iterable[Site] = (),
) -> Sites:
    """`inside`: places that were found already."""
    sites = {(site.offset, site.program): site for site in inside}
    missing: list[str] = []
    for name, probed in table.items():
        function = functions.get(name)
        if function is None:
            continue
        found = _probe_function(elf, function, probed, convention, functions.get(probed.mover))
        if found is None:
            missing.append(name)
            continue
        sites.update({(site.offset, site.program): site for site in found})
    programs = {site.program for site in sites.values()}
    if not any("read" in program for program in programs) or not any("write" in program for program in programs):
        return Sites(library=library, reason=f"{library} is built so that no place was found in {', '.join(missing)}.")
    return Sites(library=library, sites=tuple(sites.values()))


def _probe_function(
    elf: Elf, function: Function, probed: Probed, convention: Convention, mover: Function | None
) -> Iterable[Site] | None:
    """Sites of one function; None where its returns are not all known."""
    instructions = elf.disassemble(function)
    if instructions is None:
        return None
    sites = [make_site(elf, find_beginning(instructions, probed.arguments), probed.program)]
    moved = find_only_call(instructions, mover.address) if mover is not None else None
    if moved is not None:
        sites.append(make_site(elf, moved, probed.mover_program))
    elif probed.has_return:
        places = _find_all_returns(elf, function, convention)
        if not places:
            return None
        inner = find_inner(instructions, probed.arguments) if probed.inner else None
        if inner is not None and inner.pointer in probed.inner and not all(place.is_emulated for place in places):
            return [
                make_site(elf, inner.call, probed.inner[inner.pointer]),
                make_site(elf, inner.behind, convention.return_program),
            ]
        sites += [make_site(elf, place, convention.return_program) for place in places]
    return sites


def _find_all_returns(elf: Elf, function: Function, convention: Convention) -> list[Place] | None:
    """Of the function, and of those that it jumps to in its end; None where one of them is not known."""
    places: list[Place] = []
    waiting, seen = [function], {function.address}
    while waiting:
        one = waiting.pop()
        instructions = elf.disassemble(one)
        returns = find_returns(instructions, convention.results) if instructions else None
        if returns is None or len(seen) > MAX_PARTS:
            return None
        places += returns.places
        for address in returns.elsewhere:
            part = elf.find_frame(address)
            if part is None:
                return None
            if part.address not in seen:
                seen.add(part.address)
                waiting.append(part)
    return places
