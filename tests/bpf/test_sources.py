"""The sources of the kernel side hold nothing that libbcc turns into another program on another host."""

import re
from typing import Final

import pytest

from sensor.ebpf.compile import BPF_DIRECTORY

# Names of bcc, and what libbcc looks at before it decides what they mean.
REFUSED: Final = {
    r"bpf_probe_read\w*": "addresses in /proc/kallsyms: use read_kernel and read_user of reads.h",
    r"bpf_usdt_\w+": "the same, for it reads memory of processes",
    r"bpf_num_cpus": "processors of the host that compiles",
}
SOURCES: Final = sorted(BPF_DIRECTORY.rglob("*.[ch]"))


@pytest.mark.parametrize("refused", REFUSED)
def test_no_source_uses_a_name_that_depends_on_the_host(refused: str) -> None:
    pattern = re.compile(rf"\b{refused}\b")
    found = [
        f"{path.relative_to(BPF_DIRECTORY)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        # Comments may explain.
        if pattern.search(re.sub(r"/\*.*|^ \*.*", "", line))
    ]
    assert not found, f"{found} depend on {REFUSED[refused]}"
