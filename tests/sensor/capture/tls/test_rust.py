"""rustls by the names of its symbols: a small file that has only those."""

import struct

import pytest

from sensor.capture.tls.elf import Elf
from sensor.capture.tls.finder import find_rust_functions
from tests.sensor.capture.tls.contents import make_elf as read_elf

STATE = "_ZN6rustls12common_state11CommonState"
HASH = "17h435d223cce0e3acdE"
NEW = "_RNvMs_NtCsfa2ZF9Yg3cP_6rustls12common_stateNtB4_11CommonState"
READ, WRITE = "23take_received_plaintext", "16buffer_plaintext"
HELLO = (
    "_ZN102_$LT$rustls..server..hs..ExpectClientHello$u20$as$u20$rustls..common_state..State$LT$rustls..server.."
    "server_conn..ServerConnectionData$GT$$GT$6handle"
)
NEW_HELLO = "_RNvXs_NtNtCsfa2ZF9Yg3cP_6rustls6server2hsNtB4_17ExpectClientHelloNtB8_5State6handle"
DROP = "_ZN4core3ptr54drop_in_place$LT$rustls..common_state..CommonState$GT$17h{:016x}E"
OTHERS = (
    f"_ZN6rustls6server11server_conn14EarlyDataState{READ}{HASH}",
    f"{STATE}{READ}28_$u7b$$u7b$closure$u7d$$u7d$17h435d223cce0e3acdE",
    "_ZN4core3ptr54drop_in_place$LT$rustls..conn..ConnectionCommon$GT$17h3c6ee0ba42dc67a0E",
)


def make_elf(names: list[str]) -> Elf:
    """A symbol of 16 bytes for each, at 0x1000, 0x1010 and on."""
    strings, symbols = b"\0", bytes(24)
    for number, name in enumerate(names):
        symbols += struct.pack("<IBBHQQ", len(strings), 2, 0, 1, 0x1000 + 16 * number, 16)
        strings += name.encode() + b"\0"
    sections = {"": b"", ".shstrtab": b"\0.shstrtab\0.symtab\0.strtab\0", ".symtab": symbols, ".strtab": strings}
    content, headers = bytearray(64), b""
    for name, body in sections.items():
        at = sections[".shstrtab"].find(b"\0" + name.encode() + b"\0") + 1 if name else 0
        headers += struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, len(content), len(body), 0, 0, 0, 0)
        content += body
    header = b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", 62) + bytes(12) + struct.pack("<QQ", 0, len(content))
    content[:64] = header.ljust(52, b"\0") + struct.pack("<6H", 64, 56, 0, 64, len(sections), 1)
    return read_elf(bytes(content) + headers)


@pytest.mark.parametrize(
    ("names", "hello"),
    [
        ([STATE + READ + HASH, STATE + WRITE + HASH + ".llvm.1955879363133059728"], HELLO + HASH),
        ([NEW + READ, NEW + WRITE], NEW_HELLO),
    ],
    ids=["legacy", "v0"],
)
def test_methods_are_found_in_both_ways_of_writing(names: list[str], hello: str) -> None:
    found = find_rust_functions(make_elf([*OTHERS, *names, hello, DROP.format(1), DROP.format(2)]))
    addresses = {name: function.address for name, function in found.items()}
    assert addresses == {
        name: 0x1000 + 16 * (len(OTHERS) + number)
        for number, name in enumerate(("take_received_plaintext", "buffer_plaintext", "hello 1", "drop 1", "drop 2"))
    }


@pytest.mark.parametrize("missing", [READ, WRITE])
def test_both_or_none(missing: str) -> None:
    names = [STATE + name + HASH for name in (READ, WRITE) if name != missing]
    assert find_rust_functions(make_elf([*OTHERS, *names])) == {}
