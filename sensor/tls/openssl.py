"""Finds where OpenSSL 3 itself moves data of applications, behind SSL_read, SSL_write and all that call them.

`ssl3_read_bytes(ssl, type, received_type, buffer, length, peek, read)` (ssl/record/rec_layer_s3.c, 3.0 to 3.6) copies
what was received to the caller's buffer by memcpy: a call, which the kernel emulates, that each piece of data passes
once, and nothing else: not the read that finds nothing. There the source is plain text and in a register, and so is its
length; where the session, the type and `peek` are then is told by the flow of the arguments (`sensor.tls.flow`).
At the other end's end it sets a flag of the session. `ssl3_write_bytes(ssl, type, buffer, length, written)` is entered
and left once a write. Neither has a symbol: errors made there name the function, so each loads the text of its name.

Anything that is not as expected gives none, and the functions for applications are probed instead.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import capstone
from capstone import x86

from sensor.tls.code import C_RESULTS, Place, find_beginning, find_returns, find_target, is_emulated
from sensor.tls.elf import Elf, Function
from sensor.tls.flow import KEPT, Flow, State, Value, find_memory, follow
from sensor.tls.site import Site
from sensor.tls.texts import find_references, find_texts

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
# The next place is passed by the same write, and is told nothing then; and: it may come from such a place.
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
    write succeeds: so all that does passes one, and of two the first is told."""
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
    # What comes to the second ones by the first ones is not told there.
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
