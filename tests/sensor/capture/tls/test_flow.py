"""Where arguments are while a function runs: as compilers move them, each function in bytes."""

from sensor.capture.tls.code import Flow, State, Value, disassemble, follow

AT = 0x1000
ARGUMENTS = {"di": Value("session"), "si": Value("type", 4), "c": Value("memory"), "r9": Value("peek", 4)}
PUSH_RBX, MOVE_TO_RBX, SUB_RSP, RET = "53", "4889fb", "4883ec18", "c3"
CALL = "e800000000"
SPILL_PEEK = "44894c2408"  # mov %r9d, 8(%rsp)


def run(*parts: str) -> tuple[Flow | None, int]:
    """The flow, and the address behind the last part."""
    code = bytes.fromhex("".join(parts))
    instructions = disassemble(code, AT)
    assert instructions is not None
    return follow(instructions, AT, ARGUMENTS), AT + len(code)


def find_before_last(*parts: str) -> State:
    """What is known before the last part."""
    flow, end = run(*parts)
    assert flow is not None
    return flow.states[end - len(bytes.fromhex(parts[-1]))]


def test_a_call_leaves_what_was_kept() -> None:
    before = find_before_last(PUSH_RBX, MOVE_TO_RBX, CALL)
    assert before.registers["di"] == Value("session")
    behind = find_before_last(PUSH_RBX, MOVE_TO_RBX, CALL, RET)
    assert behind.find("session", 8) == [("b", 0)]
    assert "di" not in behind.registers and behind.find("memory", 8) == []


def test_a_place_of_the_stack_moves_with_its_pointer() -> None:
    state = find_before_last(SUB_RSP, SPILL_PEEK, PUSH_RBX, CALL)
    assert state.find("peek", 4) == [("", 16)] and state.find("peek", 8) == []
    assert find_before_last(SUB_RSP, SPILL_PEEK, PUSH_RBX, "5b", CALL).find("peek", 4) == [("", 8)]


def test_what_is_written_over_is_not_known() -> None:
    assert find_before_last(SUB_RSP, SPILL_PEEK, "c644240b00", CALL).find("peek", 4) == []  # movb $0, 11(%rsp)
    assert find_before_last(MOVE_TO_RBX, "b301", CALL).find("session", 8) == []  # mov $1, %bl
    assert find_before_last(MOVE_TO_RBX, "4883e4f0", SPILL_PEEK, CALL).find("peek", 4) == []  # and $-16, %rsp


def test_where_two_ways_meet_only_what_both_know_is_known() -> None:
    """`test %eax, %eax; je` past a move of the session, or of something else."""
    assert find_before_last(MOVE_TO_RBX, "85c0", "7403", "4889fd", CALL).find("session", 8) == [("b", 0)]
    assert find_before_last("85c0", "7403", MOVE_TO_RBX, CALL).find("session", 8) == []


def test_a_pointer_that_a_loop_moves_on_is_of_the_same_memory() -> None:
    """mov %rcx, %rbp; again: mov %rbp, %rdi; call; add %rax, %rbp; jmp again."""
    flow, _ = run("4889cd", "4889ef", CALL, "4801c5", "ebf3")
    assert flow is not None
    assert flow.states[AT + 6].registers["di"] == Value("memory", 8, True)
    assert flow.states[AT + 6].find("memory", 8) == [], "it is not what came"


def test_an_address_in_what_an_argument_points_to() -> None:
    assert find_before_last("488d7f10", CALL).registers["di"] == Value("session", 8, True)  # lea 16(%rdi), %rdi
    assert find_before_last("488dbc07b0000000", CALL).registers["di"] == Value("session", 8, True)  # .. and an index


def test_a_part_of_an_argument_has_its_size() -> None:
    assert find_before_last("440fb6fe", CALL).find("type", 1) == [("r15", 0)]  # movzbl %sil, %r15d
    assert find_before_last("440fb6fe", CALL).find("type", 4) == []
    assert find_before_last("88e3", CALL).find("type", 1) == []  # mov %ah, %bl


def test_a_jump_to_anywhere_is_not_followed() -> None:
    assert run("ffe0")[0] is None
    assert run("3effe0")[0] is None, "nor a table"
