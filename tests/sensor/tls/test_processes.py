"""Which files processes run, from a proc tree of our own."""

from pathlib import Path

from sensor.tls.processes import FileId, ProcessFiles

LIBSSL = "7f0000000000-7f0000010000 r-xp 00001000 fd:01 42 /usr/lib/libssl.so.3"
LIBC = "7f0000020000-7f0000030000 r-xp 00001000 fd:01 43 /usr/lib/libc.so.6"
DATA = "7f0000040000-7f0000050000 rw-p 00001000 fd:01 42 /usr/lib/libssl.so.3"
ANONYMOUS = "7f0000060000-7f0000070000 r-xp 00000000 00:00 0 [vdso]"
TICKS = 100
LIBSSL_ID = FileId(device=(0xFD << 8) | 1, inode=42)


class Proc:
    """A tree in which processes come, map and go."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uptime = 1_000.0
        self.scope: frozenset[int] | None = None
        self.files = ProcessFiles(
            str(root), min_age_seconds=2.0, uptime=lambda: self.uptime, read_scope=lambda: self.scope
        )

    def run(self, pid: int, *maps: str, age: float, executable: str = "/usr/bin/app") -> None:
        directory = self.root / str(pid)
        directory.mkdir(exist_ok=True, parents=True)
        start = int((self.uptime - age) * TICKS)
        (directory / "stat").write_text(f"{pid} (a) b) S 1 {'0 ' * 17}{start} 0")
        (directory / "maps").write_text("\n".join(maps))
        if not (directory / "exe").is_symlink():
            (directory / "exe").symlink_to(executable)

    def end(self, pid: int) -> None:
        for path in (self.root / str(pid)).iterdir():
            path.unlink()
        (self.root / str(pid)).rmdir()

    def look(self) -> dict[FileId, tuple[int, ...]]:
        return {one.file: one.pids for one in self.files.look()}


def test_a_library_is_found_once_for_all_that_map_it(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, LIBC, DATA, ANONYMOUS, age=50)
    proc.run(11, LIBSSL, age=60)
    assert proc.look() == {LIBSSL_ID: (10, 11)}
    (one,) = proc.files.look()  # Through the eldest: a child that ends at once does not take the way with it.
    assert (one.path, one.name) == (f"{tmp_path}/11/root/usr/lib/libssl.so.3", "/usr/lib/libssl.so.3")


def test_processes_outside_the_scope_are_not_looked_at(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    proc.run(11, LIBSSL, age=60)
    proc.scope = frozenset({10, 999})
    assert proc.look() == {LIBSSL_ID: (10,)}
    (one,) = proc.files.look()
    assert one.path == f"{tmp_path}/10/root/usr/lib/libssl.so.3"
    proc.scope = frozenset()
    assert proc.look() == {}


def test_containers_of_one_image_run_one_file(tmp_path: Path) -> None:
    """Each overlay has a device of its own; what a container changed is a file of its own."""
    image = tmp_path / "image"
    image.write_text("code")
    proc = Proc(tmp_path / "proc")
    for pid, device in ((10, "00:28"), (11, "00:2a"), (12, "00:2c"), (13, "00:2e")):
        line = f"7f0000000000-7f0000010000 r-xp 00001000 {device} 42 /usr/lib/libssl.so.3"
        proc.run(pid, line, age=50)
        library = tmp_path / f"root{pid}" / "usr/lib/libssl.so.3"
        library.parent.mkdir(parents=True)
        library.hardlink_to(image)
        (proc.root / str(pid) / "root").symlink_to(tmp_path / f"root{pid}")
        kind = "tmpfs" if pid == 13 else "overlay"
        minor = int(device.partition(":")[2], 16)
        (proc.root / str(pid) / "mountinfo").write_text(
            f"30 1 253:1 / / rw - ext4 /dev/vda rw\n31 1 0:{minor} / /usr rw,relatime shared:1 - {kind} {kind} rw\n"
        )
    changed = tmp_path / "root12" / "usr/lib/libssl.so.3"
    changed.unlink()
    changed.write_text("code")
    assert sorted(proc.look().values()) == [(10, 11), (12,), (13,)]


def test_a_library_that_was_replaced_is_reached_by_its_mapping(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, f"{LIBSSL} (deleted)", age=50)
    (one,) = proc.files.look()
    assert one.name == "/usr/lib/libssl.so.3 (deleted)"
    assert one.path == f"{tmp_path}/10/map_files/7f0000000000-7f0000010000"


def test_the_program_itself_is_looked_at(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, "00400000-00500000 r-xp 00000000 fd:01 99 /usr/bin/app", age=50)
    assert [file.inode for file in proc.look()] == [99]


def test_what_has_much_code_is_looked_at_whatever_its_name(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    large = "7f0000100000-7f0000200000 r-xp 00001000 fd:01 50 /opt/app/_wrapper.abi3.so"
    small = "7f0000100000-7f00001ff000 r-xp 00001000 fd:01 51 /opt/app/_other.abi3.so"
    data = "7f0000100000-7f0000200000 r--p 00001000 fd:01 52 /opt/app/fonts"
    proc.run(10, large, small, data, age=50)
    assert {file.inode for file in proc.look()} == {50}


def test_the_short_lived_are_left_alone(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=1)
    assert proc.look() == {}
    proc.uptime += 1.5
    assert proc.look() == {LIBSSL_ID: (10,)}


def test_what_is_mapped_later_is_found_later(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBC, age=4)
    assert proc.look() == {}
    (tmp_path / "10" / "maps").write_text(LIBSSL)
    proc.uptime += 3
    assert proc.look() == {}, "a process is looked at again when it is twice as old"
    proc.uptime += 2
    assert proc.look() == {LIBSSL_ID: (10,)}


def test_who_has_gone_is_forgotten_and_a_pid_may_come_again(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    assert proc.look() == {LIBSSL_ID: (10,)}
    proc.end(10)
    assert proc.look() == {}
    proc.run(10, LIBC, age=50)
    assert proc.look() == {}


def test_what_may_not_be_read_is_counted(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.run(10, LIBSSL, age=50)
    (tmp_path / "10" / "maps").unlink()
    (tmp_path / "10" / "maps").mkdir()
    assert proc.look() == {}
    assert proc.files.unreadable == 1
