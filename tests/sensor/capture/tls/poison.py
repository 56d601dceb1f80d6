"""A libssl that lies about where its functions are, with the build id of the real one."""

import struct

from tests.sensor.capture.tls.contents import make_elf

# push %rbp; mov %rsp, %rbp; xor %eax, %eax; pop %rbp; ret: a function that a probe would go into.
_FUNCTION = bytes.fromhex("554889e531c05dc3")
_WITHIN = 5  # Bytes behind the beginning of SSL_write: within `sub $0x18, %rsp` of the real one.
_SYMBOL = struct.Struct("<IBBHQQ")


def poison(content: bytes) -> bytes:
    """The library, in which SSL_shutdown lies within SSL_write. Anybody can make it of the real one."""
    elf, data = make_elf(content), bytearray(content)
    functions = elf.find_functions(("SSL_write", "SSL_shutdown"))
    target = functions["SSL_write"].address + _WITHIN
    table = elf.sections[".dynsym"]
    for at in range(table.offset, table.offset + table.size, _SYMBOL.size):
        name, kind, other, section, address, _ = _SYMBOL.unpack_from(data, at)
        if address == functions["SSL_shutdown"].address:
            _SYMBOL.pack_into(data, at, name, kind, other, section, target, len(_FUNCTION))
    offset = elf.locate(target)
    data[offset : offset + len(_FUNCTION)] = _FUNCTION
    return bytes(data)
