"""Finds where in a function of x86-64 a probe is cheapest and still sees what it must, and where its arguments are.

The kernel puts a breakpoint over an instruction. It emulates some instructions (arch/x86/kernel/uprobes.c: jumps,
calls, `nop`, `push` of a register). The processor steps over all others elsewhere, which costs a second trap. So:

- **Beginning**: the first emulated instruction on the straight line from the first one, as long as no argument was
  written. No branch comes before it, so every call passes it. Otherwise it is the first instruction.
- **Returns**: every `ret`, or the conditional jump before it. The jump needs three things: nothing after it writes
  the result, no other way leads to the `ret`, and its other way does not return (the stack guard's check).

Return probes (uretprobes) are never used: they change the return address, which Go's stacks do not survive. A function
that leaves by a jump to another one (a tail call) returns from there. `find_returns` gives these addresses.

`follow` is a data flow analysis. It starts with the registers of the System V convention and follows each move over all
ways through the function, to a fixed point. Where two ways meet, only what both have in one place is known. It gives,
for each address, the registers and stack places that hold an argument on every way there. An instruction that it does
not understand makes places unknown, never wrong. A function with an unknown jump gives None.

Two assumptions about compilers remain. Memory of the function that it reaches by a pointer or an index is not where it
keeps arguments. A place where it keeps an argument, to read it again, is not given to functions that it calls.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import capstone
from capstone import x86

# Registers of results by the System V convention, and Go's, and of Go's arguments.
C_RESULTS: Final = ("a",)
GO_ARGUMENTS: Final = ("a", "b", "c", "r14")
GO_RESULTS: Final = ("a", "b", "r14")
# A function longer than this is not looked at; those that are probed have 100 to 13,000 bytes and 2,700 instructions.
MAX_FUNCTION_BYTES: Final = 32_768
MAX_FUNCTION_INSTRUCTIONS: Final = 8_192
MAX_INSTRUCTION_BYTES: Final = 15
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
    emulated. `pointer` is the register in which the call gets where to put how much it moved."""

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


def is_instruction(code: bytes) -> bool:
    """Whether these bytes are one whole instruction."""
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return len(code) <= MAX_INSTRUCTION_BYTES and any(
        size == len(code) for _, size, _, _ in decoder.disasm_lite(code, 0, 1)
    )


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


# Registers that a call leaves as they are.
KEPT: Final = ("b", "bp", "r12", "r13", "r14", "r15")
_LOST: Final = ("a", "c", "d", "si", "di", "r8", "r9", "r10", "r11")
_MOVES: Final = (x86.X86_INS_MOV, x86.X86_INS_MOVABS, x86.X86_INS_MOVZX, x86.X86_INS_MOVSX, x86.X86_INS_MOVSXD)
_SUMS: Final = (x86.X86_INS_ADD, x86.X86_INS_SUB)
# Times that an instruction is looked at, on the average; OpenSSL takes 1.3.
_MAX_LOOKS: Final = 12
# What one costs, in units of work (sensor.capture.tls.elf).
_LOOK_WORK: Final = 32_768
# Places of the stack that are known at once; OpenSSL's functions have 5.
_MAX_STACK: Final = 64
_STACK: Final = "stack"


@dataclass(frozen=True, slots=True)
class Value:
    """An argument, or a distance from where the stack was when the function began."""

    name: str
    size: int = 8  # Bytes of it that are there, the lowest.
    is_moved: bool = False  # Something was added to it.
    distance: int = 0


@dataclass(slots=True)
class State:
    """What is known before an instruction."""

    registers: dict[str, Value] = field(default_factory=dict)
    stack: dict[int, Value] = field(default_factory=dict)  # By distance.

    def copy(self) -> "State":
        """One that may be changed."""
        return State(dict(self.registers), dict(self.stack))

    def meet(self, other: "State") -> bool:
        """Keeps what both know; whether that is less than before."""
        registers, stack = _meet(self.registers, other.registers), _meet(self.stack, other.stack)
        is_less = registers != self.registers or stack != self.stack
        self.registers, self.stack = registers, stack
        return is_less

    @property
    def top(self) -> int | None:
        """The stack pointer's distance."""
        value = self.registers.get("sp")
        return value.distance if value is not None and value.name == _STACK else None

    def find(self, name: str, least_size: int) -> list[tuple[str, int]]:
        """Places of an argument as it came: ("b", 0) is a register, ("", 24) so far from the stack pointer."""
        found = [
            (register, 0)
            for register in KEPT
            if (value := self.registers.get(register)) is not None and _is_whole(value, name, least_size)
        ]
        if self.top is not None:
            found += [
                ("", distance - self.top)
                for distance, value in sorted(self.stack.items())
                if _is_whole(value, name, least_size)
            ]
        return found


_Place = TypeVar("_Place")


def _meet(here: dict[_Place, Value], there: dict[_Place, Value]) -> dict[_Place, Value]:
    """What is at the same places; where something was added on one of the ways, it may have been."""
    met: dict[_Place, Value] = {}
    for place, value in here.items():
        other = there.get(place)
        if other is not None and (other.name, other.size, other.distance) == (value.name, value.size, value.distance):
            met[place] = value if value.is_moved else other
    return met


def _is_whole(value: Value, name: str, least_size: int) -> bool:
    return value.name == name and not value.is_moved and value.size >= least_size


@dataclass(frozen=True, slots=True)
class Flow:
    """Of one function: its states by address, and the distances at which it reads the stack."""

    states: Mapping[int, State]
    read_at: frozenset[int]


def follow(
    instructions: "Sequence[capstone.CsInsn]",
    start: int,
    arguments: Mapping[str, Value],
    until: Collection[int] = (),
    *,
    spend: Callable[[int], None] = lambda units: None,
) -> Flow | None:
    """`instructions` of the function that begins at `start`, and of its parts elsewhere; `arguments` by register. What
    only comes behind the addresses `until` is not followed. `spend` counts the work, and may end it by an
    exception."""
    until = frozenset(until)
    by_address = {instruction.address: instruction for instruction in instructions}
    states = {start: State({"sp": Value(_STACK), **arguments})}
    read_at: set[int] = set()
    waiting, looks = [start], 0
    while waiting:
        address = waiting.pop()
        instruction = by_address.get(address)
        if instruction is None or address in until:
            continue  # Behind a call that does not come back, or in another function.
        looks += 1
        spend(_LOOK_WORK)
        if looks > _MAX_LOOKS * len(by_address):
            return None
        after = states[address].copy()
        _step(instruction, after, read_at)
        following = _list_following(instruction)
        if following is None:
            return None
        for one in following:
            known = states.get(one)
            if known is None:
                states[one] = after.copy()
            elif not known.meet(after):
                continue
            waiting.append(one)
    return Flow(states, frozenset(read_at))


def _list_following(instruction: "capstone.CsInsn") -> list[int] | None:
    """Where it goes on; None where it may be anywhere."""
    behind = instruction.address + instruction.size
    if instruction.group(capstone.CS_GRP_RET) or instruction.id in (x86.X86_INS_UD2, x86.X86_INS_HLT):
        return []
    if not instruction.group(capstone.CS_GRP_JUMP):
        return [behind]
    target = find_target(instruction)
    if target is None:
        return None
    return [target] if instruction.id == x86.X86_INS_JMP else [target, behind]


def find_memory(instruction: "capstone.CsInsn", number: int, state: State) -> Value | None:
    """What the base of a memory operand holds, its distance in it; None where there is an index."""
    operand = instruction.operands[number]
    if operand.type != x86.X86_OP_MEM or operand.mem.index or operand.mem.segment:
        return None
    base = state.registers.get(name_whole(instruction.reg_name(operand.mem.base))) if operand.mem.base else None
    if base is None:
        return None
    return Value(base.name, base.size, base.is_moved, base.distance + int(operand.mem.disp))


def _step(instruction: "capstone.CsInsn", state: State, read_at: set[int]) -> None:
    """What is known behind it."""
    if instruction.group(capstone.CS_GRP_CALL):
        for register in _LOST:
            state.registers.pop(register, None)
        return
    if instruction.id in (x86.X86_INS_PUSH, x86.X86_INS_POP):
        _step_stack(instruction, state)
        return
    value = _find_result(instruction, state, read_at)
    places = [_find_own(instruction, number, state) for number in range(len(instruction.operands))]
    place = places[0] if places else None
    _, written = instruction.regs_access()
    for number in written:
        state.registers.pop(name_whole(instruction.reg_name(number)), None)
    for one, operand in zip(places, instruction.operands, strict=True):
        if one is not None:
            _forget(state, one, operand.size)
    if value is None:
        return
    if place is not None:
        _keep(state, place, value)
    elif instruction.operands[0].type == x86.X86_OP_REG and not _is_high(instruction, 0):
        state.registers[name_whole(instruction.reg_name(instruction.operands[0].reg))] = value


def _step_stack(instruction: "capstone.CsInsn", state: State) -> None:
    operand, top = instruction.operands[0], state.top
    register = name_whole(instruction.reg_name(operand.reg)) if operand.type == x86.X86_OP_REG else ""
    is_push = instruction.id == x86.X86_INS_PUSH
    value = state.registers.get(register)
    if not is_push:
        state.registers.pop(register, None)
    if not is_push and not register:
        state.stack.clear()
    if top is None or operand.size != 8:
        state.registers.pop("sp", None)
        return
    if is_push:
        _forget(state, top - 8, 8)
        if value is not None:
            _keep(state, top - 8, value)
    elif register and top in state.stack:
        state.registers[register] = state.stack[top]
    state.registers["sp"] = Value(_STACK, distance=top - 8 if is_push else top + 8)


def _keep(state: State, distance: int, value: Value) -> None:
    if len(state.stack) >= _MAX_STACK:
        state.stack.clear()
    state.stack[distance] = value


def _find_own(instruction: "capstone.CsInsn", number: int, state: State) -> int | None:
    """The place of the stack that it may write by an operand."""
    if not instruction.operands[number].access & capstone.CS_AC_WRITE:
        return None
    memory = find_memory(instruction, number, state)
    return memory.distance if memory is not None and memory.name == _STACK else None


def _find_result(instruction: "capstone.CsInsn", state: State, read_at: set[int]) -> Value | None:
    """What it moves to its first operand."""
    if len(instruction.operands) != 2:
        return None
    target, source = instruction.operands
    if instruction.id == x86.X86_INS_LEA:
        return _find_address(instruction, state)
    if instruction.id in _SUMS and target.type == x86.X86_OP_REG and target.size == 8:
        return _add(instruction, state)
    if instruction.id not in _MOVES:
        return None
    value: Value | None = None
    if source.type == x86.X86_OP_REG:
        value = None if _is_high(instruction, 1) else state.registers.get(name_whole(instruction.reg_name(source.reg)))
    elif (memory := find_memory(instruction, 1, state)) is not None and memory.name == _STACK:
        read_at.add(memory.distance)
        value = state.stack.get(memory.distance)
    if value is None or (value.name == _STACK and source.size != 8):
        return None
    size = min(value.size, source.size, target.size)
    return Value(value.name, size, value.is_moved, value.distance)


def _is_high(instruction: "capstone.CsInsn", number: int) -> bool:
    """Whether the operand is the second byte of a register: %ah."""
    return bool(instruction.reg_name(instruction.operands[number].reg).endswith("h"))


def _find_address(instruction: "capstone.CsInsn", state: State) -> Value | None:
    """Of `lea`: a place of the stack, or something in what an argument points to."""
    memory = find_memory(instruction, 1, state)
    if memory is not None:
        is_same = memory.name == _STACK or not instruction.operands[1].mem.disp
        return memory if is_same else Value(memory.name, memory.size, True)
    operand = instruction.operands[1].mem
    base = state.registers.get(name_whole(instruction.reg_name(operand.base))) if operand.base else None
    return Value(base.name, base.size, True) if base is not None and base.name != _STACK else None


def _add(instruction: "capstone.CsInsn", state: State) -> Value | None:
    target, source = instruction.operands
    value = state.registers.get(name_whole(instruction.reg_name(target.reg)))
    if value is None:
        return None
    if value.name != _STACK:
        return Value(value.name, value.size, True)
    if source.type != x86.X86_OP_IMM:
        return None
    number = int(source.imm) if instruction.id == x86.X86_INS_ADD else -int(source.imm)
    return Value(_STACK, distance=value.distance + number)


def _forget(state: State, distance: int, size: int) -> None:
    """What is written over."""
    for one in [one for one, value in state.stack.items() if one < distance + size and distance < one + value.size]:
        del state.stack[one]
