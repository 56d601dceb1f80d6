"""Where in a function of x86-64 a probe is cheapest and still sees what it must.

The kernel puts a breakpoint over an instruction. Some instructions it emulates (arch/x86/kernel/uprobes.c: jumps,
calls, `nop`, `push` of a register); all others it has the processor step over elsewhere, which costs a second trap. So:

- **Beginning**: the first emulated instruction on the straight line from the function's first one, as long as no
  argument was written. Nothing branches before it, so every call passes it. Else the first instruction.
- **Returns**: every `ret`; or the conditional jump before it where nothing comes between that writes the result, no
  other way leads to the `ret`, and the jump's other way does not return (the check of the stack's guard).

No return probe (uretprobe) is ever used: it changes the return address, which Go's stacks do not survive.

A function that leaves by a jump to another one (a tail call) returns from there: `find_returns` tells where to look on.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import capstone
from capstone import x86

# Registers of results by the System V convention, and Go's, and of Go's arguments.
C_RESULTS: Final = ("a",)
GO_ARGUMENTS: Final = ("a", "b", "c", "r14")
GO_RESULTS: Final = ("a", "b", "r14")
# A function longer than this is not looked at; those that are probed have 100 to 13,000 bytes and 2,700 instructions.
MAX_FUNCTION_BYTES: Final = 32_768
MAX_FUNCTION_INSTRUCTIONS: Final = 8_192
# Instructions between a check of the stack and the call or jump that it leads to; compilers make three to ten.
_MAX_DETOUR: Final = 64
_NOTRACK: Final = 0x3E
_CALL: Final = 0xE8


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The instruction at an address, and whether the kernel emulates it."""

    address: int
    is_emulated: bool
    code: bytes

    @classmethod
    def of(cls, instruction: "capstone.CsInsn") -> "Place":
        """The place of an instruction."""
        code = bytes(instruction.bytes)
        return cls(address=instruction.address, is_emulated=is_emulated(instruction), code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """The call that does a function's work, and the jump behind it, with what came back still in its register. Both are
    emulated. `pointer` is the register in which the call is told where to put how much it moved."""

    call: Place
    behind: Place
    pointer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Returns:
    """Of one function: its own returns, and the addresses outside of it to which it jumps."""

    places: tuple[Place, ...]
    elsewhere: frozenset[int]


def disassemble(code: bytes, address: int) -> "list[capstone.CsInsn] | None":
    """All instructions of a function; None where its bytes are not all code, or it has more than are looked at."""
    if not code or len(code) > MAX_FUNCTION_BYTES:
        return None
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    instructions = list(decoder.disasm(code, address, MAX_FUNCTION_INSTRUCTIONS))
    end = sum(instruction.size for instruction in instructions)
    return instructions if end == len(code) else None


def find_beginning(instructions: "Sequence[capstone.CsInsn]", arguments: Sequence[str]) -> Place:
    """Where a call begins, with `arguments` still in their registers. Each call passes it once: Go's check of the
    stack, from which a function begins anew, lies before it."""
    numbers = _number(instructions)
    for instruction in instructions:
        if _is_conditional(instruction) and _begins_anew(instructions, numbers.get(find_target(instruction))):
            continue
        if is_emulated(instruction):
            return Place.of(instruction)
        if _ends_block(instruction) or any(_writes(instruction, argument) for argument in arguments):
            break
    return Place.of(instructions[0])


def find_returns(instructions: "Sequence[capstone.CsInsn]", results: Sequence[str]) -> Returns | None:
    """Where a call returns, with `results` in their registers; None where it may also leave to a place that is not in
    the code."""
    start, end = instructions[0].address, instructions[-1].address + instructions[-1].size
    targets = {target for instruction in instructions if (target := find_target(instruction)) is not None}
    if any(_jumps_anywhere(instruction) for instruction in instructions):
        return None
    numbers = _number(instructions)
    places = [
        _find_return(instructions, number, targets, numbers, results)
        for number, instruction in enumerate(instructions)
        if instruction.group(capstone.CS_GRP_RET)
    ]
    return Returns(places=tuple(places), elsewhere=frozenset(one for one in targets if not start <= one < end))


def find_inner(instructions: "Sequence[capstone.CsInsn]", arguments: Sequence[str]) -> Inner | None:
    """Of a function that is `lea d(%rsp), %pointer; ..; call; test %eax, %eax; jle L; mov d(%rsp), %eax; L:`, with
    `arguments` as they came: so compilers make SSL_read and SSL_write where they do not guard the stack, and nothing
    emulated comes before their `ret`. Anything else gives None."""
    targets = {find_target(instruction) for instruction in instructions}
    pointer, place = "", 0
    for number, instruction in enumerate(instructions[:-3]):
        if instruction.group(capstone.CS_GRP_CALL):
            test, jump, load = instructions[number + 1 : number + 4]
            is_whole = (
                instruction.bytes[0] == _CALL
                and (test.mnemonic, test.op_str, jump.mnemonic) == ("test", "eax, eax", "jle")
                and find_target(jump) == load.address + load.size
                and load.mnemonic == "mov"
                and load.reg_name(load.operands[0].reg) == "eax"
                and _find_stack_place(load) == place
            )
            is_straight = targets.isdisjoint(one.address for one in (*instructions[: number + 1], test, jump, load))
            if not pointer or not is_whole or not is_straight:
                return None
            call, behind = Place.of(instruction), Place.of(jump)
            return Inner(call=call, behind=behind, pointer=pointer)
        if _ends_block(instruction) and not _is_conditional(instruction):
            return None
        if any(_writes(instruction, argument) for argument in arguments):
            return None
        if instruction.mnemonic == "lea" and (found := _find_stack_place(instruction)) is not None:
            pointer, place = name_whole(instruction.reg_name(instruction.operands[0].reg)), found
        elif pointer and (_writes(instruction, pointer) or _writes(instruction, "sp")):
            pointer = ""
    return None


def find_only_call(instructions: "Sequence[capstone.CsInsn]", address: int) -> Place | None:
    """Where a function calls the one at `address`, if at one place, directly and to come back."""
    places = [
        Place.of(instruction)
        for instruction in instructions
        if instruction.bytes[0] == _CALL and int(instruction.operands[0].imm) == address
    ]
    return places[0] if len(places) == 1 else None


def _find_stack_place(instruction: "capstone.CsInsn") -> int | None:
    """The distance from the stack pointer of the memory that is its second operand."""
    if len(instruction.operands) != 2 or instruction.operands[1].type != x86.X86_OP_MEM:
        return None
    memory = instruction.operands[1].mem
    is_plain = memory.base == x86.X86_REG_RSP and not memory.index and not memory.segment
    return int(memory.disp) if is_plain else None


def _find_return(
    instructions: "Sequence[capstone.CsInsn]",
    number: int,
    targets: Collection[int],
    numbers: Mapping[int | None, int],
    results: Sequence[str],
) -> Place:
    """The place for the return at `number`; `targets`: where jumps lead, `numbers`: of instructions by address."""
    itself = Place.of(instructions[number])
    at = number
    while at and instructions[at].address not in targets:
        at -= 1
        before = instructions[at]
        if _is_conditional(before):
            target = find_target(before)
            is_alone = instructions[at + 1].address not in targets
            if is_alone and _never_returns(instructions, numbers.get(target)) and is_emulated(before):
                return Place.of(before)
            return itself
        if _ends_block(before) or any(_writes(before, result) for result in results):
            return itself
    return itself


def _number(instructions: "Sequence[capstone.CsInsn]") -> dict[int | None, int]:
    """Places in the list by address."""
    return {instruction.address: number for number, instruction in enumerate(instructions)}


def _never_returns(instructions: "Sequence[capstone.CsInsn]", number: int | None) -> bool:
    """Whether at `number`, behind what only saves registers, is a call behind which there is no code: compilers end so
    what does not come back."""
    if number is None:
        return False
    for at, instruction in enumerate(instructions[number : number + _MAX_DETOUR], number):
        if instruction.group(capstone.CS_GRP_CALL):
            behind = instructions[at + 1].id if at + 1 < len(instructions) else x86.X86_INS_HLT
            return behind in (x86.X86_INS_NOP, x86.X86_INS_UD2, x86.X86_INS_HLT)
        if instruction.id != x86.X86_INS_MOV:
            return False
    return False


def _begins_anew(instructions: "Sequence[capstone.CsInsn]", number: int | None) -> bool:
    """Whether what is at `number` ends with a jump to the function's first instruction."""
    if number is None:
        return False
    for instruction in instructions[number : number + _MAX_DETOUR]:
        if instruction.id == x86.X86_INS_JMP:
            return bool(find_target(instruction) == instructions[0].address)
        if instruction.group(capstone.CS_GRP_RET) or _is_conditional(instruction):
            return False
    return False


def find_target(instruction: "capstone.CsInsn") -> int | None:
    """Where a direct jump leads; None of anything else."""
    if not instruction.group(capstone.CS_GRP_JUMP) or len(instruction.operands) != 1:
        return None
    operand = instruction.operands[0]
    return int(operand.imm) if operand.type == x86.X86_OP_IMM else None


def _jumps_anywhere(instruction: "capstone.CsInsn") -> bool:
    """A jump by a register or by memory that may leave the function. With `notrack` it is a table of a `switch`: the
    compiler marks so what leads to labels of the function itself (gcc and clang, -fcf-protection)."""
    is_table = bytes(instruction.bytes)[0] == _NOTRACK
    return bool(instruction.group(capstone.CS_GRP_JUMP)) and find_target(instruction) is None and not is_table


def _is_conditional(instruction: "capstone.CsInsn") -> bool:
    return bool(instruction.group(capstone.CS_GRP_JUMP)) and instruction.id != x86.X86_INS_JMP


def _ends_block(instruction: "capstone.CsInsn") -> bool:
    return any(
        instruction.group(group)
        for group in (capstone.CS_GRP_JUMP, capstone.CS_GRP_RET, capstone.CS_GRP_CALL, capstone.CS_GRP_INT)
    )


def is_emulated(instruction: "capstone.CsInsn") -> bool:
    """By branch_setup_xol_ops() and push_setup_xol_ops() of arch/x86/kernel/uprobes.c, Linux 5.0 and later."""
    code = bytes(instruction.bytes)
    first = code[0]
    if first in (0xEB, 0xE9, 0xE8) or 0x70 <= first <= 0x7F or 0x50 <= first <= 0x57:
        return True
    if first == 0x90 and len(code) == 1:
        return True
    return (first == 0x0F and 0x80 <= code[1] <= 0x8F) or (first == 0x41 and len(code) == 2 and 0x50 <= code[1] <= 0x57)


def _writes(instruction: "capstone.CsInsn", register: str) -> bool:
    """Whether it writes any part of the register: `a` is rax, eax, ax, ah, al."""
    _, written = instruction.regs_access()
    return any(name_whole(instruction.reg_name(number)) == register for number in written)


def name_whole(name: str) -> str:
    """The register that one is a part of: `d` for rdx, edx, dx, dh and dl."""
    if name.startswith("r") and name[1:2].isdigit():
        return name.rstrip("bwd")
    short = name.removeprefix("r").removeprefix("e") if len(name) == 3 else name
    if short in ("di", "dil"):
        return "di"
    if short in ("si", "sil"):
        return "si"
    if short in ("bpl", "spl"):
        return short[:2]
    if len(short) == 2 and short[0] in "abcd" and short[1] in "xhl":
        return short[0]
    return short
