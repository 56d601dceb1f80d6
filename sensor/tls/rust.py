"""Finds the two methods of rustls 0.23 that see all plain text, and where a connection is dropped, by their symbols.

Rust's names carry a hash of the build, in two ways of writing (rustc's legacy mangling, and v0 of RFC 2603). Before
0.23 the methods have other names, and nothing is found.
"""

import re
from typing import Final

from sensor.tls.elf import Elf, Function

_END: Final = rb"17h[0-9a-f]{16}E[.\w]*(?=\0)"
_METHODS: Final = {
    name: re.compile(
        rb"_ZN6rustls12common_state11CommonState"
        + length
        + name.encode()
        + _END
        + rb"|_RNv\w*6rustls12common_state\w*11CommonState"
        + length
        + name.encode()
        + rb"[.\w]*(?=\0)"
    )
    for name, length in (("take_received_plaintext", rb"23"), ("buffer_plaintext", rb"16"))
}
# Of which a program has several: with servers and clients, and a copy in each part of it.
_OTHERS: Final = {
    "hello": re.compile(
        rb"_ZN\d+_\$LT\$rustls\.\.(?:server\.\.hs\.\.ExpectClientHello|client\.\.hs\.\.ExpectServerHello)\$u20\$as[^\0]*6handle"
        + _END
        + rb"|_RNvX\w*6rustls\w*17Expect(?:Client|Server)Hello\w*6handle(?=\0)"
    ),
    "drop": re.compile(rb"_ZN4core3ptr\d+drop_in_place\$LT\$rustls\.\.common_state\.\.CommonState\$GT\$" + _END),
}
OTHERS_MAX: Final = 8


def find_rust_functions(elf: Elf) -> dict[str, Function]:
    """`take_received_plaintext` and `buffer_plaintext`, both or none; with them `hello 1` and on, which handle the
    other end's first message, and `drop 1` and on."""
    found: dict[str, Function] = {}
    for name, pattern in _METHODS.items():
        functions = list(elf.find_functions(elf.find_names(pattern)).values())
        if len(functions) != 1:
            return {}
        found[name] = functions[0]
    for name, pattern in _OTHERS.items():
        functions = list(elf.find_functions(elf.find_names(pattern)).values())[:OTHERS_MAX]
        found |= {f"{name} {number}": function for number, function in enumerate(functions, 1)}
    return found
