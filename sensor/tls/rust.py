"""Finds the two methods of rustls 0.23 that see all plain text, and where a connection is dropped, by their symbols.

Rust's names carry a hash of the build, in two ways of writing (rustc's legacy mangling, and v0 of RFC 2603). Before
0.23 the methods have other names, and nothing is found.
"""

from collections.abc import Mapping
from typing import Any, Final

import re2

from sensor.tls.elf import Elf, Function

# In all of the names.
_MARK: Final = b"rustls"
_END: Final = r"17h[0-9a-f]{16}E[.\w]*"
_METHODS: Final = {
    name: re2.compile(
        rf"_ZN6rustls12common_state11CommonState{length}{name}{_END}"
        rf"|_RNv\w*6rustls12common_state\w*11CommonState{length}{name}[.\w]*"
    )
    for name, length in (("take_received_plaintext", 23), ("buffer_plaintext", 16))
}
# Of which a program has several: with servers and clients, and a copy in each part of it.
_OTHERS: Final = {
    "hello": re2.compile(
        r"_ZN\d+_\$LT\$rustls\.\.(?:server\.\.hs\.\.ExpectClientHello|client\.\.hs\.\.ExpectServerHello)\$u20\$as[^\x00]*6handle"
        + _END
        + r"|_RNvX\w*6rustls\w*17Expect(?:Client|Server)Hello\w*6handle"
    ),
    "drop": re2.compile(rf"_ZN4core3ptr\d+drop_in_place\$LT\$rustls\.\.common_state\.\.CommonState\$GT\${_END}"),
}
OTHERS_MAX: Final = 8


def find_rust_functions(elf: Elf) -> dict[str, Function]:
    """`take_received_plaintext` and `buffer_plaintext`, both or none; with them `hello 1` and on, which handle the
    other end's first message, and `drop 1` and on."""
    names = elf.find_names(_MARK)
    found: dict[str, Function] = {}
    for name, functions in _find_fitting(elf, names, _METHODS).items():
        if len(functions) != 1:
            return {}
        found[name] = functions[0]
    for name, functions in _find_fitting(elf, names, _OTHERS).items():
        found |= {f"{name} {number}": function for number, function in enumerate(functions[:OTHERS_MAX], 1)}
    return found


def _find_fitting(elf: Elf, names: list[str], patterns: Mapping[str, Any]) -> dict[str, list[Function]]:
    """Functions whose names fit each pattern."""
    fitting = {name: [one for one in names if pattern.fullmatch(one)] for name, pattern in patterns.items()}
    return {name: list(elf.find_functions(each).values()) if each else [] for name, each in fitting.items()}
