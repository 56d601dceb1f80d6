"""Finds SSL_read and SSL_write in a BoringSSL without symbols, as gRPC's Python package has one.

Errors of BoringSSL name the source file in which they are made, so code that loads the address of the text
`.../ssl/ssl_lib.cc` is of that file; the number of the error, loaded beside it, tells the function (openssl/ssl.h,
openssl/err.h): SSL_write alone makes UNINITIALIZED, SSL_HANDSHAKE_FAILURE and SHOULD_NOT_HAVE_BEEN_CALLED; of the
functions near it that make only the last one, SSL_read alone takes a buffer and its size, has SSL_peek within it, and
takes what it gave off what waits: it writes the session's memory behind its last call. Where functions begin is told by
.eh_frame_hdr. Anything but one fit of each gives nothing.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import capstone
from capstone import x86

from sensor.tls.code import name_whole
from sensor.tls.elf import PLACE_WORK, Elf, Function
from sensor.tls.texts import find_references, find_texts

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
