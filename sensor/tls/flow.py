"""Where the arguments of a function of x86-64 are while it runs: data flow over its instructions.

From the registers of the System V convention on, what each instruction moves where is followed over all ways through
the function, to a fixed point; where two ways meet, only what both have at one place is known. Gives for each address
the places, registers and the stack's, at which an argument is on every way that leads there. What is not understood
makes places unknown, never wrong; a function that jumps to where no one can tell gives None.

Two things are taken from how compilers work: memory of the function's own that it reaches by a pointer or an index is
not where it keeps arguments, and a place where it keeps one, to read it again, is not given to functions that it calls.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import capstone
from capstone import x86

from sensor.tls.code import find_target, name_whole

# Registers that a call leaves as they are.
KEPT: Final = ("b", "bp", "r12", "r13", "r14", "r15")
_LOST: Final = ("a", "c", "d", "si", "di", "r8", "r9", "r10", "r11")
_MOVES: Final = (x86.X86_INS_MOV, x86.X86_INS_MOVABS, x86.X86_INS_MOVZX, x86.X86_INS_MOVSX, x86.X86_INS_MOVSXD)
_SUMS: Final = (x86.X86_INS_ADD, x86.X86_INS_SUB)
# Times that an instruction is looked at, on the average; OpenSSL takes 1.3.
_MAX_LOOKS: Final = 12
# What one costs, in units of work (sensor.tls.content).
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
    only comes behind the addresses `until` is not followed. `spend` is told of the work, and may end it by an
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
