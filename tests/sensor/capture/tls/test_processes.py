"""Which files processes run, from a proc tree of our own."""

import os
import shutil
from pathlib import Path

import pytest

from sensor.capture.tls import processes
from sensor.capture.tls.processes import MAX_FILES, MappedFile, ProcessFiles

LIBSSL = "7f0000000000-7f0000010000 r-xp 00001000 fd:01 42 /usr/lib/libssl.so.3"
LIBC = "7f0000020000-7f0000030000 r-xp 00001000 fd:01 43 /usr/lib/libc.so.6"
DATA = "7f0000040000-7f0000050000 rw-p 00001000 fd:01 42 /usr/lib/libssl.so.3"
ANONYMOUS = "7f0000060000-7f0000070000 r-xp 00000000 00:00 0 [vdso]"
TICKS = 100
LIBSSL_NAME = "/usr/lib/libssl.so.3"


class Proc:
    """A tree in which processes come, map and go. They have one root, where what they map is."""

    def __init__(self, root: Path) -> None:
        self.root = root / "proc"
        self.host = root / "host"
        self.host.mkdir(parents=True)
        self.uptime = 1_000.0
        self.scope: frozenset[int] | None = None
        self.files = ProcessFiles(
            str(self.root), min_age_seconds=2.0, uptime=lambda: self.uptime, read_scope=lambda: self.scope
        )

    def run(self, pid: int, *maps: str, age: float, executable: str = "/usr/bin/app", cgroup: str = "") -> None:
        directory = self.root / str(pid)
        directory.mkdir(exist_ok=True, parents=True)
        start = int((self.uptime - age) * TICKS)
        (directory / "stat").write_text(f"{pid} (a) b) S 1 {'0 ' * 17}{start} 0")
        (directory / "cgroup").write_text(f"0::{cgroup or f'/system.slice/{pid}.service'}\n")
        if not (directory / "root").is_symlink():
            (directory / "root").symlink_to(self.host)
        (directory / "maps").write_text("\n".join(self._number(directory / "root", line) for line in maps))
        if not (directory / "exe").is_symlink():
            (directory / "exe").symlink_to(executable)

    def _number(self, root: Path, line: str) -> str:
        """The line with the number of its file, which is made."""
        before, separator, path = line.partition(" /")
        if not separator:
            return line
        file = root / path.removesuffix(" (deleted)")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        return f"{before.rpartition(' ')[0]} {file.stat().st_ino} /{path}"

    def end(self, pid: int) -> None:
        shutil.rmtree(self.root / str(pid))

    def look(self) -> dict[str, tuple[int, ...]]:
        """Processes by the name of their file."""
        return {one.name: one.pids for one in self.files.look()}

    def open(self, one: MappedFile) -> bytes:
        fd = self.files.open_file(one)
        try:
            return os.pread(fd, 100, 0)
        finally:
            os.close(fd)


def test_a_library_is_found_once_for_all_that_map_it(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, LIBC, DATA, ANONYMOUS, age=50)
    proc.run(11, LIBSSL, age=60)
    assert proc.look() == {LIBSSL_NAME: (10, 11)}
    (one,) = proc.files.look()  # Through the eldest: a child that ends at once does not take the way with it.
    assert one.name == "/usr/lib/libssl.so.3"
    assert one.ways[1] == f"{proc.root}/11/root/usr/lib/libssl.so.3"
    assert set(one.cgroups) == {"/system.slice/10.service", "/system.slice/11.service"}


def test_processes_outside_the_scope_are_not_looked_at(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    proc.run(11, LIBSSL, age=60)
    proc.scope = frozenset({10, 999})
    assert proc.look() == {LIBSSL_NAME: (10,)}
    (one,) = proc.files.look()
    assert one.ways[1] == f"{proc.root}/10/root/usr/lib/libssl.so.3"
    proc.scope = frozenset()
    assert proc.look() == {}


def test_containers_of_one_image_run_one_file(tmp_path: Path) -> None:
    """Each overlay has a device of its own; what a container changed is a file of its own."""
    image = tmp_path / "image"
    image.write_text("code")
    proc = Proc(tmp_path)
    for pid, device in ((10, "00:28"), (11, "00:2a"), (12, "00:2c"), (13, "00:2e")):
        line = f"7f0000000000-7f0000010000 r-xp 00001000 {device} 42 /usr/lib/libssl.so.3"
        library = tmp_path / f"root{pid}" / "usr/lib/libssl.so.3"
        library.parent.mkdir(parents=True)
        library.hardlink_to(image)
        (proc.root / str(pid)).mkdir(parents=True)
        (proc.root / str(pid) / "root").symlink_to(tmp_path / f"root{pid}")
        proc.run(pid, line, age=50)
        kind = "tmpfs" if pid == 13 else "overlay"
        minor = int(device.partition(":")[2], 16)
        (proc.root / str(pid) / "mountinfo").write_text(
            f"30 1 253:1 / / rw - ext4 /dev/vda rw\n31 1 0:{minor} / /usr rw,relatime shared:1 - {kind} {kind} rw\n"
        )
    changed = tmp_path / "root12" / "usr/lib/libssl.so.3"
    changed.unlink()
    changed.write_text("code")
    assert sorted(one.pids for one in proc.files.look()) == [(10, 11), (12,), (13,)]


def test_a_file_on_a_users_own_file_system_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may never answer: not even what the file is may be asked."""
    proc, asked, stat = Proc(tmp_path), list[str](), os.stat
    proc.run(10, "7f0000000000-7f0000010000 r-xp 00001000 00:63 42 /mnt/libssl.so.3", LIBSSL, age=50)
    (proc.root / "10/mountinfo").write_text("31 1 0:99 / /mnt rw,nosuid - fuse.sshfs me@there rw\n")
    monkeypatch.setattr(os, "stat", lambda path, **more: (asked.append(str(path)), stat(path, **more))[1])
    assert list(proc.look()) == [LIBSSL_NAME]
    assert not [path for path in asked if "mnt" in path]


def test_a_file_is_opened_by_its_mapping_whatever_its_path_leads_to(tmp_path: Path) -> None:
    """Replaced on disk, or another one was mounted over it."""
    for line in (f"{LIBSSL} (deleted)", LIBSSL):
        proc = Proc(tmp_path / str(len(line)))
        proc.run(10, line, age=50)
        (proc.host / "usr/lib/libssl.so.3").write_bytes(b"another")
        mapped = proc.root / "10/map_files/7f0000000000-7f0000010000"
        mapped.parent.mkdir()
        mapped.write_bytes(b"the mapped one")
        (one,) = proc.files.look()
        assert one.name == line.partition("/")[1] + line.partition("/")[2]
        assert proc.open(one) == b"the mapped one"


def test_mappings_of_low_addresses_have_names_without_zeros(tmp_path: Path) -> None:
    """As the kernel names them: those of a program that is not moved."""
    proc = Proc(tmp_path)
    proc.run(10, "00400000-00500000 r-xp 00000000 fd:01 99 /usr/bin/app", age=50)
    (one,) = proc.files.look()
    assert one.ways[0] == f"{proc.root}/10/map_files/400000-500000"


def test_without_the_right_to_mappings_it_is_opened_by_its_path(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    (proc.host / "usr/lib/libssl.so.3").write_bytes(b"the file")
    (one,) = proc.files.look()
    assert proc.open(one) == b"the file"


def test_without_that_right_another_file_at_the_path_is_none_of_the_process(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    path = proc.host / "usr/lib/libssl.so.3"
    path.rename(path.with_name("kept"))
    path.touch()
    assert proc.look() == {}


@pytest.mark.parametrize("what", ["another", "changed", "link", "pipe", "directory", "gone"])
def test_what_is_no_more_the_file_that_was_seen_is_not_opened(tmp_path: Path, what: str) -> None:
    """A pipe would never open, and a device might do something."""
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    path = proc.host / "usr/lib/libssl.so.3"
    (one,) = proc.files.look()
    if what == "changed":
        path.write_bytes(b"x")
    else:
        path.unlink()
    if what == "another":
        path.write_bytes(b"")
    elif what == "link":
        path.symlink_to("/etc/passwd")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    with pytest.raises(FileNotFoundError):
        proc.files.open_file(one)


def test_a_file_that_was_changed_is_another_file(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    (before,) = proc.files.look()
    path = proc.host / "usr/lib/libssl.so.3"
    os.utime(path, ns=(1, 1))
    assert [one.file for one in proc.files.look()] == [before.file], "its process is not due"
    proc.files.reread(before.pids)
    (after,) = proc.files.look()
    assert (after.file.inode, after.file.modified_ns) == (before.file.inode, 1) and after.file != before.file


@pytest.mark.parametrize("end", ["\r", "\x0c", "\x85", "\u2028"])
def test_no_character_of_a_name_begins_another_line(tmp_path: Path, end: str) -> None:
    """A file whose name has a line of the table in it, which is the host's library."""
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    assert LIBSSL_NAME in proc.look()
    forged = (proc.root / "10/maps").read_text()
    proc.run(11, age=50)
    (proc.root / "11/maps").write_text(f"7f0000000000-7f0000200000 r-xp 00000000 fd:01 77 /tmp/x{end}{forged}")
    assert proc.look() == {LIBSSL_NAME: (10,)}


def test_names_of_any_bytes_are_printable_and_their_files_are_opened(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, age=50)
    path = b"/opt/\xff\x1b/libssl.so.3"
    file = proc.host / os.fsdecode(path[1:])
    file.parent.mkdir(parents=True)
    file.write_bytes(b"the file")
    line = b"7f0000000000-7f0000010000 r-xp 00001000 fd:01 %d %b" % (file.stat().st_ino, path)
    (proc.root / "10/maps").write_bytes(line)
    (one,) = proc.files.look()
    assert one.name == "/opt/\\xff\\x1b/libssl.so.3"
    assert proc.open(one) == b"the file"


def test_files_of_a_process_are_bounded(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, *make_lines(MAX_FILES + 9), age=50)
    assert len(proc.look()) == MAX_FILES


def test_files_of_all_are_bounded_and_the_cgroup_that_has_most_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has most even where it lies in many cgroups below its own."""
    monkeypatch.setattr(processes, "MAX_MAPPINGS", 20)
    proc = Proc(tmp_path)
    for number in range(5):
        proc.run(10 + number, *make_lines(4), age=50, cgroup=f"/evil/{number}")
    assert (len(proc.look()), proc.files.left_out) == (4, 0)
    proc.run(50, LIBSSL, age=50, cgroup="/good")
    assert proc.look()[LIBSSL_NAME] == (50,)
    assert proc.files.left_out == 1


def make_lines(count: int) -> list[str]:
    return [f"7f0000000000-7f0000010000 r-xp 0 fd:01 {one} /usr/lib/libssl-{one}.so" for one in range(count)]


def test_the_program_itself_is_looked_at(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, "00400000-00500000 r-xp 00000000 fd:01 99 /usr/bin/app", age=50)
    assert list(proc.look()) == ["/usr/bin/app"]


def test_what_has_much_code_is_looked_at_whatever_its_name(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    large = "7f0000100000-7f0000200000 r-xp 00001000 fd:01 50 /opt/app/_wrapper.abi3.so"
    small = "7f0000100000-7f00001ff000 r-xp 00001000 fd:01 51 /opt/app/_other.abi3.so"
    data = "7f0000100000-7f0000200000 r--p 00001000 fd:01 52 /opt/app/fonts"
    proc.run(10, large, small, data, age=50)
    assert list(proc.look()) == ["/opt/app/_wrapper.abi3.so"]


def test_the_short_lived_are_left_alone(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=1)
    assert proc.look() == {}
    proc.uptime += 1.5
    assert proc.look() == {LIBSSL_NAME: (10,)}


def test_what_is_mapped_later_is_found_later(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBC, age=4)
    assert proc.look() == {}
    proc.run(10, LIBSSL, age=7)
    proc.uptime += 3
    assert proc.look() == {}, "a process is looked at again when it is twice as old"
    proc.uptime += 2
    assert proc.look() == {LIBSSL_NAME: (10,)}


def test_who_has_gone_is_forgotten_and_a_pid_may_come_again(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    assert proc.look() == {LIBSSL_NAME: (10,)}
    proc.end(10)
    assert proc.look() == {}
    proc.run(10, LIBC, age=50)
    assert proc.look() == {}


def test_what_may_not_be_read_is_counted(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    (proc.root / "10" / "maps").unlink()
    (proc.root / "10" / "maps").mkdir()
    for _ in range(2):
        assert proc.look() == {}
        assert proc.files.unreadable == 1, "also while its next look is to come"
