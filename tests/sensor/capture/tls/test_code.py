"""Places in functions: as compilers write them, each in bytes with what they mean beside it."""

from collections.abc import Sequence

import pytest

from sensor.capture.tls.code import (
    C_RESULTS,
    GO_ARGUMENTS,
    GO_RESULTS,
    MAX_FUNCTION_BYTES,
    MAX_FUNCTION_INSTRUCTIONS,
    Place,
    Returns,
    disassemble,
    find_beginning,
    find_inner,
    find_only_call,
    find_returns,
)

AT = 0x1000
C_ARGUMENTS = ("di", "si", "d", "c", "r8")
ENDBR = "f30f1efa"  # endbr64
SUB_RSP = "4883ec18"  # sub $0x18, %rsp
TEST_EDX = "85d2"
PUSH_RBX, POP_RBX, RET = "53", "5b", "c3"
CALL = "e800000000"
XOR_EDX, XOR_EAX = "31d2", "31c0"
MOV_R8_RCX, XOR_ECX = "4989c8", "31c9"


def read(*parts: str) -> "list[object]":
    instructions = disassemble(bytes.fromhex("".join(parts)), AT)
    assert instructions is not None
    return list(instructions)


def tell(place: Place | None) -> tuple[int, bool]:
    """Where it is, and whether the kernel emulates it."""
    assert place is not None and place.code
    return place.address, place.is_emulated


def tell_returns(parts: Sequence[str], results: Sequence[str]) -> tuple[list[tuple[int, bool]], frozenset[int]]:
    returns = find_returns(read(*parts), results)
    assert returns is not None
    return [tell(place) for place in returns.places], returns.elsewhere


@pytest.mark.parametrize(
    ("parts", "offset", "is_emulated"),
    [
        ((ENDBR, PUSH_RBX, CALL, POP_RBX, RET), 4, True),
        ((ENDBR, SUB_RSP, CALL, RET), 8, True),  # The call itself: its arguments are still there.
        ((ENDBR, SUB_RSP, XOR_EAX, TEST_EDX, "7801", CALL, RET), 12, True),  # js, past a write of eax.
        ((ENDBR, MOV_R8_RCX, XOR_ECX, PUSH_RBX, RET), 0, False),  # r8 is an argument too.
        ((ENDBR, XOR_EAX, RET), 0, False),
        ((ENDBR, "4157", RET), 4, True),  # push %r15
    ],
)
def test_beginning(parts: tuple[str, ...], offset: int, is_emulated: bool) -> None:
    assert tell(find_beginning(read(*parts), C_ARGUMENTS)) == (AT + offset, is_emulated)


def test_beginning_in_go_keeps_its_own_registers() -> None:
    """`cmp 0x10(%r14), %rsp; jbe`: the check of the stack, before anything is written."""
    assert tell(find_beginning(read("493b6610", "7600", RET), GO_ARGUMENTS)) == (AT + 4, True)
    grown = read("493b6610", "7603", "55", POP_RBX, RET, CALL, "ebf0")
    assert tell(find_beginning(grown, GO_ARGUMENTS)) == (AT + 6, True), "behind the check"
    assert tell(find_beginning(read("31db", "7600", RET), GO_ARGUMENTS)) == (AT, False)


def test_return_before_the_guards_check() -> None:
    """`jne` to a call that does not return, then only registers that are no result, then `ret`."""
    parts = (ENDBR, CALL, "7507", "4883c418", XOR_EDX, RET, CALL)
    assert tell_returns(parts, C_RESULTS) == ([(AT + 9, True)], frozenset())


@pytest.mark.parametrize(
    ("parts", "offset"),
    [
        ((CALL, "7502", XOR_EAX, RET, CALL), 9),  # The result is written behind the jump.
        ((CALL, "7502", XOR_EDX, RET, CALL, RET), 9),  # What the jump leads to returns too.
        ((CALL, "7505", "7502", XOR_EDX, RET, CALL), 11),  # Another way comes right behind the jump.
    ],
)
def test_return_by_itself(parts: tuple[str, ...], offset: int) -> None:
    assert (AT + offset, False) in tell_returns(parts, C_RESULTS)[0]


def test_all_results_of_go_must_be_there() -> None:
    parts = (CALL, "7502", POP_RBX, RET, CALL)
    assert tell_returns(parts, C_RESULTS) == ([(AT + 5, True)], frozenset())
    assert tell_returns(parts, GO_RESULTS) == ([(AT + 8, False)], frozenset())


def test_a_call_that_is_the_only_one_of_its_kind() -> None:
    there = "e800010000"  # Of what is 0x105 behind it.
    assert tell(find_only_call(read(XOR_EAX, there, CALL, RET), AT + 2 + 0x105)) == (AT + 2, True)
    assert find_only_call(read(there, "e8fb000000", RET), AT + 0x105) is None  # Two lead there,
    assert find_only_call(read("e900010000", RET), AT + 0x105) is None  # and a jump does not come back.


def test_a_jump_out_is_told_and_one_by_a_register_is_refused() -> None:
    returns = find_returns(read(ENDBR, "e900010000"), C_RESULTS)
    assert returns == Returns(places=(), elsewhere=frozenset({AT + 9 + 0x100}))
    assert find_returns(read(ENDBR, "ffe0"), C_RESULTS) is None  # jmp *%rax
    assert find_returns(read("3effe0", RET), C_RESULTS) is not None  # notrack jmp *%rax: a table.


def test_what_is_not_code_is_refused() -> None:
    assert disassemble(b"", AT) is None
    assert disassemble(b"\x06" + bytes(8), AT) is None  # push %es: not in 64 bits.
    assert disassemble(b"\xc3" * (MAX_FUNCTION_BYTES + 1), AT) is None
    assert disassemble(b"\xc3" * (MAX_FUNCTION_INSTRUCTIONS + 1), AT) is None


LEA_RCX, LEA_R8, MOVE_RDX = "488d4c2408", "4c8d442408", "4863d2"  # lea 8(%rsp), ..; movslq %edx, %rdx
TEST_EAX, JLE_4, LOAD_EAX, ADD_RSP = "85c0", "7e04", "8b442408", "4883c418"
TO_CALL = (SUB_RSP, TEST_EDX, "7840", LEA_RCX, MOVE_RDX)  # js, to its error.
BEHIND = (TEST_EAX, JLE_4, LOAD_EAX, ADD_RSP, RET)


def test_inner_call_of_a_function_without_guard() -> None:
    """SSL_read of Node 20."""
    found = find_inner(read(*TO_CALL, CALL, *BEHIND), ("di", "si"))
    assert found is not None
    assert (tell(found.call), tell(found.behind), found.pointer) == ((AT + 16, True), (AT + 23, True), "c")
    assert (found.call.code, found.behind.code) == (bytes.fromhex(CALL), bytes.fromhex(JLE_4))
    by_r8 = find_inner(read(SUB_RSP, LEA_R8, MOVE_RDX, CALL, *BEHIND), ("di", "si"))
    assert by_r8 is not None and by_r8.pointer == "r8"


@pytest.mark.parametrize(
    "parts",
    [
        (*TO_CALL, CALL, TEST_EAX, JLE_4, "8b442410", ADD_RSP, RET),  # It loads from another place.
        (*TO_CALL, CALL, TEST_EAX, "7e00", LOAD_EAX, ADD_RSP, RET),  # The jump leads to the load.
        (*TO_CALL, CALL, XOR_EDX, *BEHIND),
        (*TO_CALL, XOR_ECX, CALL, *BEHIND),  # The pointer is written again.
        (*TO_CALL, PUSH_RBX, CALL, *BEHIND),  # The stack moves.
        ("4889f7", *TO_CALL, CALL, *BEHIND),  # mov %rsi, %rdi: an argument is written.
        (*TO_CALL, "ffd0", *BEHIND),  # call *%rax
        (*TO_CALL, CALL, *BEHIND, "ebe4"),  # A jump from elsewhere to the call.
        (SUB_RSP, CALL, *BEHIND),
    ],
)
def test_inner_call_that_is_not_certain(parts: tuple[str, ...]) -> None:
    assert find_inner(read(*parts), ("di", "si")) is None
