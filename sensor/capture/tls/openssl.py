"""Finds the places inside OpenSSL 3 and BoringSSL where data of applications are moved, without symbols.

OpenSSL: `ssl3_read_bytes(ssl, type, received_type, buffer, length, peek, read)` (ssl/record/rec_layer_s3.c, 3.0 to 3.6)
copies received data to the caller's buffer by memcpy. The kernel emulates this call. Each piece of data passes it once,
and a read that finds nothing does not. Source and length are in registers there. The flow of the arguments
(`sensor.capture.tls.code`) gives the session, the type and `peek`. When the peer has sent its last, the function sets a
flag of the session. `ssl3_write_bytes(ssl, type, buffer, length, written)` is entered and left once per write. Neither
has a symbol, but each loads the text of its name for its errors. If anything differs from this, nothing is found and
the functions for applications are probed instead.

BoringSSL, as in gRPC's Python package: its errors name their source file, so code that loads the address of
`.../ssl/ssl_lib.cc` is of that file. The error number beside it identifies the function (openssl/ssl.h, openssl/err.h).

- SSL_write alone makes UNINITIALIZED, SSL_HANDSHAKE_FAILURE and SHOULD_NOT_HAVE_BEEN_CALLED.
- SSL_read is near it and makes only the last one. It takes a buffer and its size, has SSL_peek within it, and writes
  the session's memory behind its last call, to remove what it gave.

`.eh_frame_hdr` gives the beginnings of functions. Anything but one fit of each gives nothing.

`Site` and `Sites` are the contract between finding and attaching: places in a file, as plain data.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import capstone
import numpy as np
from capstone import x86

from sensor.capture.tls.code import (
    C_RESULTS,
    KEPT,
    Flow,
    Place,
    State,
    Value,
    find_beginning,
    find_memory,
    find_returns,
    find_target,
    follow,
    is_emulated,
    name_whole,
)
from sensor.capture.tls.elf import PLACE_WORK, Elf, Function


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place for a probe."""

    offset: int  # In the file.
    program: str  # Of bpf/tls.c.
    cookie: int = 0  # What the program gets of this place.
    is_emulated: bool  # The kernel emulates the instruction there; others it steps over, at some 15 times the cost.
    code: bytes  # The instruction there, as it was read.

    @property
    def probe(self) -> tuple[int, str, int]:
        """What is attached: offset, program, cookie."""
        return self.offset, self.program, self.cookie


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """Where a file is probed. Without `sites` it is not, and `reason` says why in a sentence."""

    library: str  # `OpenSSL`, `GnuTLS`, `Go crypto/tls`; empty where the file has none of TLS.
    sites: tuple[Site, ...] = ()
    reason: str = ""
    plain: tuple[Site, ...] = ()  # Instead of `sites` where the kernel hands no cookies to programs; empty: the same.

    def choose(self, *, has_cookies: bool) -> tuple[Site, ...]:
        """Those for a kernel with or without cookies."""
        return self.sites if has_cookies or not self.plain else self.plain


NO_TLS = Sites(library="")


# Further than any code reaches: an offset has 32 bits, and a file fewer bytes than that.
_REACH: Final = 1 << 40
# Of `lea text(%rip), register`.
_BYTES: Final = 7
# Places that are looked at; BoringSSL's source file is named at 73.
MAX_REFERENCES: Final = 16_384


def find_texts(elf: Elf, offset: int) -> list[int]:
    """Addresses of what is at an offset of the file."""
    return [
        section.address + offset - section.offset
        for section in elf.sections.values()
        if section.address and section.offset <= offset < section.offset + section.size
    ]


def find_references(elf: Elf, texts: list[int]) -> list[int]:
    """Addresses of `lea text(%rip), register`, in order; the first MAX_REFERENCES."""
    text = elf.sections[".text"]
    # From where the code is: a hostile file has addresses that no number of the array holds.
    near = np.array([one - text.address for one in texts if abs(one - text.address) <= _REACH], np.int64)
    found: list[int] = []
    if not len(near):
        return found
    for at, window in elf.content.read_windows(text.offset, text.size, _BYTES - 1):
        elf.content.spend(4 * len(window))
        code = np.frombuffer(window, np.uint8)
        # REX.W, lea, and a register with %rip: mod 00, r/m 101.
        is_lea = (code[:-6] & 0xFB == 0x48) & (code[1:-5] == 0x8D) & (code[2:-4] & 0xC7 == 0x05)
        places = np.flatnonzero(is_lea)
        offsets = np.zeros(len(places), np.int64)
        for byte in range(4):
            offsets |= code[places + 3 + byte].astype(np.int64) << 8 * byte
        offsets = np.where(offsets >= 1 << 31, offsets - (1 << 32), offsets)
        places += at - text.offset
        chosen = places[np.isin(places + _BYTES + offsets, near)]
        elf.content.spend(len(chosen) * PLACE_WORK)
        found += [text.address + place for place in chosen.tolist()]
        if len(found) >= MAX_REFERENCES:
            break
    return found[:MAX_REFERENCES]


READ, WRITE = "ssl3_read_bytes", "ssl3_write_bytes"
# A function and what it jumps to: its cold part, and functions that it ends with.
MAX_PARTS: Final = 16
# Of all of them; 3.0 to 3.6 have 1,100 at most.
MAX_INSTRUCTIONS: Final = 4_096
# Places where a function says how much was written; 3.0 to 3.6 have four at most.
MAX_STORES: Final = 16
_READ_ARGUMENTS: Final = {
    "di": Value("session"),
    "si": Value("type", 4),
    "c": Value("memory"),
    "r9": Value("peek", 4),
}
_COPIES: Final = ("memcpy", "memmove")
_RECEIVED_SHUTDOWN: Final = 2  # openssl/ssl.h
_WRITE_ARGUMENTS: Final = {
    "di": Value("session"),
    "si": Value("type", 4),
    "d": Value("memory"),
    "r8": Value("written"),
}
# Of a cookie, 15 bits for each argument: a register of KEPT, from 1, or how far from the stack pointer.
_SPOT_BITS: Final = 15
_SPOT_STACK: Final = 0x4000
# The next place is passed by the same write, and is reported nothing then; and: it may come from such a place.
_FIRST: Final = 1 << 60
_SECOND: Final = 1 << 61
_UNSURE: Final = -1
_CALL: Final = 0xE8


def find_read_sites(elf: Elf) -> tuple[Site, ...]:
    """Where data are read and where they end; none where that is not certain."""
    for function in _find_named(elf, READ):
        instructions = _read_all(elf, function)
        flow = _follow(elf, instructions, function.address, _READ_ARGUMENTS)
        if flow is None:
            continue
        copies = _find_copies(elf, instructions, flow)
        ends = _find_ends(elf, instructions, flow)
        if copies and ends:
            return (*copies, *ends)
    return ()


def find_write_sites(elf: Elf) -> tuple[Site, ...]:
    """Where a write has said how much it took; else where it begins and where it ends; none where the kernel would not
    emulate them."""
    functions = _find_named(elf, WRITE)
    found = [sites for function in functions if (sites := _find_done(elf, function))]
    return found[0] if found else _find_both_ends(elf, functions)


def _find_done(elf: Elf, function: Function) -> tuple[Site, ...]:
    """The first instructions that are emulated behind each store of how much was written, as is done only where the
    write succeeds: so all that does passes one, and of two the first is reported."""
    instructions = _read_all(elf, function)
    flow = _follow(elf, instructions, function.address, _WRITE_ARGUMENTS)
    if flow is None:
        return ()
    stores = [number for number, one in enumerate(instructions) if _is_told(one, flow.states.get(one.address))]
    if len(stores) > MAX_STORES:
        return ()
    places = [_find_behind(instructions, number + 1) for number in stores]
    stored_at = [instructions[number].address for number in stores]
    without = _follow(elf, instructions, function.address, _WRITE_ARGUMENTS, stored_at)
    if not places or None in places or without is None or any(place in without.states for place in places):
        return ()
    if any(_may_be_told(one, without.states.get(one.address)) for one in instructions):
        return ()
    ordered = [place for place in dict.fromkeys(places) if place is not None]
    following = {place: _find_next(elf, instructions, place, ordered) for place in ordered}
    firsts = [place for place in ordered if following[place] is not None]
    if any(following[place] in (_UNSURE, *firsts) for place in firsts):
        return ()
    # What comes to the second ones by the first ones is not reported there.
    flow = _follow(elf, instructions, function.address, _WRITE_ARGUMENTS, firsts)
    by_address = {one.address: one for one in instructions}
    return _pack_done(elf, flow, [by_address[place] for place in ordered], firsts) if flow is not None else ()


def _pack_done(
    elf: Elf, flow: Flow, instructions: "Iterable[capstone.CsInsn]", firsts: Sequence[int]
) -> tuple[Site, ...]:
    """None where an argument is not known at one of the places."""
    wanted = (("session", 8), ("type", 1), ("memory", 8), ("written", 8))
    sites: list[Site] = []
    for instruction in instructions:
        state = flow.states.get(instruction.address)
        cookie = _pack(flow, state, wanted) if state is not None else None
        if cookie is None:
            return ()
        cookie |= _FIRST if instruction.address in firsts else _SECOND if firsts else 0
        sites.append(make_site(elf, Place.of(instruction), "openssl_write_done", cookie))
    return tuple(sites)


def _is_told(instruction: "capstone.CsInsn", state: State | None) -> bool:
    """`mov %register, (written)`."""
    if state is None or instruction.id != x86.X86_INS_MOV:
        return False
    memory = find_memory(instruction, 0, state)
    is_argument = memory is not None and memory.name == "written" and not memory.is_moved and not memory.distance
    return is_argument and instruction.operands[0].size == 8


def _may_be_told(instruction: "capstone.CsInsn", state: State | None) -> bool:
    """The same, by a register of which nothing is known."""
    if state is None or instruction.id != x86.X86_INS_MOV:
        return False
    operand = instruction.operands[0]
    is_plain = operand.type == x86.X86_OP_MEM and operand.size == 8 and not operand.mem.disp and not operand.mem.index
    return is_plain and find_memory(instruction, 0, state) is None


def _find_behind(instructions: "Sequence[capstone.CsInsn]", number: int) -> int | None:
    """The address of the first instruction from there that is emulated; None where it may go elsewhere before."""
    behind = next((one for one in instructions[number:] if is_emulated(one) or _is_end(one)), None)
    return behind.address if behind is not None and is_emulated(behind) else None


def _find_next(elf: Elf, instructions: "Sequence[capstone.CsInsn]", place: int, places: Sequence[int]) -> int | None:
    """The one of the places that each way from this one passes; `_UNSURE` where only some do."""
    by_address = {one.address: one for one in instructions}
    start = _find_following(by_address[place])
    behind = _follow(elf, instructions, start, {}) if start is not None else None
    if behind is None:
        return _UNSURE
    if not any(one in behind.states for one in places):
        return None
    while start is not None and start not in places:
        start = _find_following(by_address[start])
    return _UNSURE if start is None else start


def _find_following(instruction: "capstone.CsInsn") -> int | None:
    """Where it goes on; None where that is not one place of the function."""
    if instruction.id == x86.X86_INS_JMP:
        return find_target(instruction)
    return None if _is_end(instruction) else instruction.address + instruction.size


def _find_both_ends(elf: Elf, functions: Iterable[Function]) -> tuple[Site, ...]:
    for function in functions:
        instructions = elf.disassemble(function)
        returns = find_returns(instructions, C_RESULTS) if instructions else None
        if not instructions or returns is None or not returns.places:
            continue
        beginning = find_beginning(instructions, ("di", "si", "d", "r8"))
        if not all(place.is_emulated for place in (beginning, *returns.places)) or _leaves(elf, returns.elsewhere):
            continue
        return (
            make_site(elf, beginning, "openssl_write_bytes"),
            *(make_site(elf, place, "call_return") for place in returns.places),
        )
    return ()


def _leaves(elf: Elf, elsewhere: Iterable[int]) -> bool:
    """Whether one of the parts returns, too."""
    for address in elsewhere:
        part = elf.find_frame(address)
        instructions = elf.disassemble(part) if part is not None else None
        if not instructions or any(one.group(capstone.CS_GRP_RET) for one in instructions):
            return True
    return False


def _find_named(elf: Elf, name: str) -> list[Function]:
    """Functions that load the text of the name."""
    if ".text" not in elf.sections:
        return []
    wanted = b"\0" + name.encode() + b"\0"
    texts = [address for at in elf.content.find_all([wanted])[wanted] for address in find_texts(elf, at + 1)]
    found = {elf.find_frame(address) for address in find_references(elf, texts)} if texts else set()
    return sorted((one for one in found if one is not None), key=lambda function: function.address)


def _read_all(elf: Elf, function: Function) -> "list[capstone.CsInsn]":
    """Its instructions and those of what it jumps to; none where one of them is no code."""
    found: list[capstone.CsInsn] = []
    waiting, seen = [function], {function.address}
    while waiting:
        one = waiting.pop()
        instructions = elf.disassemble(one)
        found += instructions or []
        if instructions is None or len(seen) > MAX_PARTS or len(found) > MAX_INSTRUCTIONS:
            return []
        for instruction in instructions:
            target = find_target(instruction)
            if target is None or one.address <= target < one.address + one.size:
                continue
            part = elf.find_frame(target)
            if part is not None and part.address not in seen:
                seen.add(part.address)
                waiting.append(part)
    return found


def _follow(
    elf: Elf,
    instructions: "Sequence[capstone.CsInsn]",
    start: int,
    arguments: Mapping[str, Value],
    until: Sequence[int] = (),
) -> Flow | None:
    """None where there are no instructions, or where the flow is not known."""
    return follow(instructions, start, arguments, until, spend=elf.content.spend) if instructions else None


def _find_copies(elf: Elf, instructions: "Sequence[capstone.CsInsn]", flow: Flow) -> list[Site]:
    """Calls that copy to the caller's buffer; none where one of them is not known to, or not to."""
    found = []
    for instruction in instructions:
        state = flow.states.get(instruction.address)
        if state is None or not _is_copy(elf, instruction):
            continue
        target = state.registers.get("di")
        if target is None:
            return []
        if target.name != "memory":
            continue
        cookie = _pack(flow, state, (("session", 8), ("type", 1), ("peek", 4)))
        if cookie is None or instruction.bytes[0] != _CALL:
            return []
        found.append(make_site(elf, Place.of(instruction), "openssl_read_data", cookie))
    return found


def _find_ends(elf: Elf, instructions: "Sequence[capstone.CsInsn]", flow: Flow) -> list[Site]:
    """Behind each place that notes that the other end has said its last: the next instruction that is emulated."""
    found = []
    for number, instruction in enumerate(instructions):
        state = flow.states.get(instruction.address)
        if state is None or not _is_shut(instruction, state):
            continue
        behind = next((one for one in instructions[number:] if is_emulated(one) or _is_end(one)), instruction)
        state = flow.states.get(behind.address)
        cookie = _pack(flow, state, (("session", 8),)) if state is not None and is_emulated(behind) else None
        if cookie is None:
            return []
        found.append(make_site(elf, Place.of(behind), "openssl_read_end", cookie))
    return found


def _is_shut(instruction: "capstone.CsInsn", state: State) -> bool:
    """`or $2, at(session)`."""
    if instruction.id != x86.X86_INS_OR or instruction.operands[1].type != x86.X86_OP_IMM:
        return False
    memory = find_memory(instruction, 0, state)
    is_flag = int(instruction.operands[1].imm) == _RECEIVED_SHUTDOWN
    return is_flag and memory is not None and memory.name == "session" and not memory.is_moved


def _is_end(instruction: "capstone.CsInsn") -> bool:
    return any(instruction.group(group) for group in (capstone.CS_GRP_JUMP, capstone.CS_GRP_RET, capstone.CS_GRP_CALL))


def _is_copy(elf: Elf, instruction: "capstone.CsInsn") -> bool:
    return bool(instruction.group(capstone.CS_GRP_CALL)) and _name_called(elf, instruction) in _COPIES


def _name_called(elf: Elf, instruction: "capstone.CsInsn") -> str:
    """The function of another library; empty where it is none."""
    operand = instruction.operands[0]
    if operand.type == x86.X86_OP_IMM:
        return elf.find_import(int(operand.imm))
    is_table = operand.type == x86.X86_OP_MEM and operand.mem.base == x86.X86_REG_RIP
    return elf.name_import(instruction.address + instruction.size + int(operand.mem.disp)) if is_table else ""


def _pack(flow: Flow, state: State, wanted: Iterable[tuple[str, int]]) -> int | None:
    """Where arguments are, as bpf/tls.c reads it; None where one of them is not known."""
    cookie = 0
    for number, (name, size) in enumerate(wanted):
        spots = [
            KEPT.index(register) + 1 if register else _SPOT_STACK | distance
            for register, distance in state.find(name, size)
            if register or (0 <= distance < _SPOT_STACK and (state.top or 0) + distance in flow.read_at)
        ]
        if not spots:
            return None
        cookie |= spots[0] << _SPOT_BITS * number
    return cookie


def make_site(elf: Elf, place: Place, program: str, cookie: int = 0) -> Site:
    """What goes in at a place. Raises ElfError where the file has none there."""
    return Site(
        offset=elf.locate(place.address),
        program=program,
        is_emulated=place.is_emulated,
        cookie=cookie,
        code=place.code,
    )


SOURCE: Final = b"/ssl/ssl_lib.cc\0"
_SOURCE_PATH_BYTES: Final = 256
# A reference and the number of its error are at most so many bytes apart.
_NEAR: Final = 24
_ERROR: Final = re.compile(rb"\xba(..)\0\0", re.DOTALL)  # mov $number, %edx
_NOT_CALLED, _UNINITIALIZED, _HANDSHAKE_FAILURE = 66, 226, 215
_WRITE_ERRORS: Final = frozenset({_NOT_CALLED, _UNINITIALIZED, _HANDSHAKE_FAILURE})
_READ_ERRORS: Final = frozenset({_NOT_CALLED})
# SSL_read, SSL_peek and SSL_write stand so near to each other.
_NEIGHBOURHOOD: Final = 0x4000
# Memory by these is the function's own, or global.
_OWN_BASES: Final = (x86.X86_REG_INVALID, x86.X86_REG_RSP, x86.X86_REG_RBP, x86.X86_REG_RIP)


def find_boring_functions(elf: Elf, sources: Sequence[int]) -> dict[str, Function]:
    """`SSL_read` and `SSL_write`, both or none. `sources`: where the file has SOURCE."""
    if ".text" not in elf.sections or not sources:
        return {}
    errors = _read_errors(elf, find_references(elf, _find_texts(elf, sources)))
    writes = [function for function, numbers in errors.items() if numbers >= _WRITE_ERRORS]
    if len(writes) != 1:
        return {}
    write = writes[0]
    reads = [
        function
        for function, numbers in errors.items()
        if numbers == _READ_ERRORS
        and abs(function.address - write.address) < _NEIGHBOURHOOD
        and _takes_off(elf.disassemble(function) or [])
    ]
    return {"SSL_read": reads[0], "SSL_write": write} if len(reads) == 1 else {}


def _takes_off(instructions: "Sequence[capstone.CsInsn]") -> bool:
    """Whether a function keeps its second and third argument, and adds to memory that is not its own: what it gave is
    gone from there."""
    kept, is_adding = set[str](), False
    for instruction in instructions:
        if len(instruction.operands) != 2:
            continue
        target, source = instruction.operands
        if instruction.id in (x86.X86_INS_MOV, x86.X86_INS_MOVSXD) and source.type == x86.X86_OP_REG:
            kept.add(name_whole(instruction.reg_name(source.reg)))
        if instruction.id == x86.X86_INS_ADD and target.type == x86.X86_OP_MEM:
            is_adding = is_adding or target.mem.base not in _OWN_BASES
    return is_adding and {"si", "d"} <= kept


def _find_texts(elf: Elf, sources: Sequence[int]) -> list[int]:
    """Addresses of the source file's name; compilers keep one for each that is not shared."""
    found: list[int] = []
    for at in sources:
        length = min(at, _SOURCE_PATH_BYTES)
        before = elf.content.read(at - length, length)
        found += find_texts(elf, at - (length - 1 - before.rfind(b"\0")))
    return found


def _read_errors(elf: Elf, references: list[int]) -> dict[Function, set[int]]:
    """Numbers of errors near each reference, by function."""
    errors: dict[Function, set[int]] = defaultdict(set)
    for address in references:
        elf.content.spend(PLACE_WORK)
        function = elf.find_frame(address)
        if function is None:
            continue
        around = elf.read_code(max(address - _NEAR, function.address), 2 * _NEAR + 7)
        errors[function] |= {int.from_bytes(match[1], "little") for match in _ERROR.finditer(around)}
    return errors
