"""Places inside the OpenSSL of this machine, checked by its stubs and frames; what is not as expected gives none."""

import shutil
import subprocess
from pathlib import Path

import pytest

from sensor.capture.tls import openssl
from sensor.capture.tls.elf import Elf, Function
from sensor.capture.tls.finder import find_sites
from sensor.capture.tls.openssl import READ, WRITE, Site, find_read_sites, find_references, find_texts, find_write_sites
from tests.sensor.capture.tls.contents import make_elf

# Of cookies (bpf/tls.c).
FIRST_PLACE, SECOND_PLACE = 1 << 60, 1 << 61
LIBSSL = Path("/usr/lib/x86_64-linux-gnu/libssl.so.3")


@pytest.fixture(scope="module")
def content() -> bytes:
    if not LIBSSL.exists():
        pytest.skip("no libssl.so.3")
    return LIBSSL.read_bytes()


@pytest.fixture(scope="module")
def reads(content: bytes) -> tuple[Site, ...]:
    sites = find_read_sites(make_elf(content))
    if not sites:
        pytest.skip("this libssl.so.3 is built so that no place was found")
    return sites


def find_function(elf: Elf, name: str) -> Function:
    """The one that loads its name."""
    text = b"\0" + name.encode() + b"\0"
    at = elf.content.find_all([text])[text][0] + 1
    (function,) = {elf.find_frame(address) for address in find_references(elf, find_texts(elf, at))}
    assert function is not None
    return function


def find_address(elf: Elf, offset: int) -> int:
    text = elf.sections[".text"]
    return text.address + offset - text.offset


def test_data_are_read_where_they_are_copied(content: bytes, reads: tuple[Site, ...]) -> None:
    elf = make_elf(content)
    function = find_function(elf, READ)
    copies = [site for site in reads if site.program == "openssl_read_data"]
    assert copies and {site.program for site in reads} == {"openssl_read_data", "openssl_read_end"}
    for site in copies:
        address = find_address(elf, site.offset)
        assert function.address < address < function.address + function.size
        assert content[site.offset] == 0xE8, "a call, which the kernel emulates"
        target = address + 5 + int.from_bytes(content[site.offset + 1 : site.offset + 5], "little", signed=True)
        assert elf.find_import(target) in ("memcpy", "memmove")
        assert site.cookie, "where its arguments are"


def test_the_calls_are_those_that_objdump_sees(content: bytes, reads: tuple[Site, ...]) -> None:
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("objdump is not installed: apt-get install binutils")
    elf = make_elf(content)
    function = find_function(elf, READ)
    command = [objdump, "-d", "--no-show-raw-insn", f"--start-address={function.address}"]
    command += [f"--stop-address={function.address + function.size}", str(LIBSSL)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    calls = {int(line.split(":")[0], 16) for line in lines if "call" in line and "<memcpy@plt>" in line}
    assert {find_address(elf, site.offset) for site in reads if site.program == "openssl_read_data"} <= calls


def test_writes_are_told_where_they_have_said_how_much(content: bytes) -> None:
    """Within the function, and where one place leads to another the first says so and the other knows."""
    elf = make_elf(content)
    sites = find_write_sites(elf)
    if {site.program for site in sites} != {"openssl_write_done"}:
        pytest.skip("this libssl.so.3 is built so that no place was found")
    function = find_function(elf, WRITE)
    assert all(function.address < find_address(elf, site.offset) < function.address + function.size for site in sites)
    assert all(site.is_emulated and site.cookie for site in sites)
    firsts = [site for site in sites if site.cookie & FIRST_PLACE]
    seconds = [site for site in sites if site.cookie & SECOND_PLACE]
    assert bool(firsts) == bool(seconds) and not set(firsts) & set(seconds)


def test_other_writes_are_told_by_both_ends(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    elf = make_elf(content)
    monkeypatch.setattr(openssl, "_find_done", lambda elf, function: ())
    sites = find_write_sites(elf)
    if not sites:
        pytest.skip("this libssl.so.3 is built so that no place was found")
    function = find_function(elf, WRITE)
    assert [site.program for site in sites] == ["openssl_write_bytes"] + ["call_return"] * (len(sites) - 1)
    for site in sites:
        assert site.is_emulated
        assert function.address <= find_address(elf, site.offset) < function.address + function.size


def test_a_write_that_says_elsewhere_how_much_has_no_such_place(content: bytes) -> None:
    """Where the function begins, its last argument is written over."""
    elf = make_elf(content)
    function = find_function(elf, WRITE)
    offset = elf.locate(function.address)
    at = content.find(b"\x4c\x89\x44\x24", offset, offset + 64)  # mov %r8, at(%rsp)
    if at < 0:
        pytest.skip("another beginning")
    changed = bytearray(content)
    changed[at : at + 5] = b"\x4c\x89\x4c\x24" + content[at + 4 : at + 5]  # mov %r9, at(%rsp)
    assert "openssl_write_done" not in {site.program for site in find_write_sites(make_elf(bytes(changed)))}


def test_kernels_without_cookies_have_the_functions_for_applications(content: bytes, reads: tuple[Site, ...]) -> None:
    sites = find_sites(make_elf(content), "libssl.so.3")
    assert set(reads) <= set(sites.choose(has_cookies=True))
    plain = sites.choose(has_cookies=False)
    assert {"openssl_read", "openssl_read_ex", "call_return"} <= {site.program for site in plain}
    assert not any(site.cookie for site in plain)


def change(content: bytes, old: bytes, new: bytes) -> Elf:
    assert len(old) == len(new) and content.count(old) >= 1
    return make_elf(content.replace(old, new))


def test_without_its_name_it_is_read_at_the_functions_for_applications(content: bytes) -> None:
    name = b"\0" + READ.encode() + b"\0"
    elf = change(content, name, b"\0" + b"x" * len(READ) + b"\0")
    assert find_read_sites(elf) == ()
    programs = {site.program for site in find_sites(elf, "libssl.so.3").sites}
    assert {"openssl_read", "openssl_read_ex"} <= programs and "openssl_read_data" not in programs


def test_without_the_copy_or_the_end_none_is_certain(content: bytes, reads: tuple[Site, ...]) -> None:
    """Each taken out of the code."""
    for program in ("openssl_read_data", "openssl_read_end"):
        changed = bytearray(content)
        for site in reads:
            if site.program == program:
                start = site.offset if program == "openssl_read_data" else site.offset - 24
                end = site.offset + 5 if program == "openssl_read_data" else site.offset
                changed[start:end] = b"\x90" * (end - start)
        assert find_read_sites(make_elf(bytes(changed))) == (), program


def test_a_copy_whose_arguments_are_lost_is_none(content: bytes, reads: tuple[Site, ...]) -> None:
    """Where the function begins, what it keeps for later is written over."""
    elf = make_elf(content)
    function = find_function(elf, READ)
    offset = elf.locate(function.address)
    start = content.find(b"\x48\x85\xff", offset, offset + 64)  # test %rdi, %rdi
    if start < 0:
        pytest.skip("another beginning")
    changed = bytearray(content)
    changed[start : start + 3] = b"\x4c\x89\xcf"  # mov %r9, %rdi
    assert find_read_sites(make_elf(bytes(changed))) == ()
