"""What a setting asks to be watched, on a plain directory that is said to be a mount of cgroup v2."""

from pathlib import Path

import pytest

from sensor.enrich.cgroup_tree import DEFAULT_CGROUP_PATH, MAX_LEVELS, WHOLE_HOST, CgroupScope, ScopeError, find_scope
from tests.sensor.scopes import watch_cgroup, watch_host

SERVICE = "system.slice/shop.service"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """Of a hybrid host: below a directory that is another file system."""
    unified = tmp_path / "cgroup/unified"
    (unified / SERVICE / "worker").mkdir(parents=True)
    (unified / "system.slice/shop.service.d").mkdir()
    return unified


def read(mount: Path, path: Path, *others: str) -> CgroupScope:
    lines = ("proc /proc proc rw 0 0", f"tmpfs {mount.parent} tmpfs rw 0 0", f"cgroup2 {mount} cgroup2 rw 0 0", *others)
    return find_scope("\n".join(lines) + "\n", path)


def test_a_directory_inside_a_mount_is_the_scope(mount: Path) -> None:
    scope = read(mount, mount / SERVICE)
    assert (scope.mount, scope.directory, scope.path) == (mount, mount / SERVICE, f"/{SERVICE}")
    assert scope.cgroup_id == scope.kernel_id == (mount / SERVICE).stat().st_ino
    assert not scope.is_whole_host
    assert str(scope) == f"{mount / SERVICE} and below"


@pytest.mark.parametrize("below", ["", "..", "../.."])
def test_the_mount_and_what_is_above_it_are_the_whole_host(mount: Path, below: str) -> None:
    scope = read(mount, mount / below)
    assert (scope.mount, scope.directory, scope.path) == (mount, mount, "/")
    assert (scope.is_whole_host, scope.kernel_id, str(scope)) == (True, 0, "the whole host")


def test_a_link_to_a_cgroup_is_that_cgroup(mount: Path, tmp_path: Path) -> None:
    (tmp_path / "shop").symlink_to(mount / SERVICE)
    assert read(mount, tmp_path / "shop") == read(mount, mount / SERVICE)


def test_a_mount_of_a_part_of_the_hierarchy_is_not_the_whole_host(mount: Path) -> None:
    """As a container has that is in a cgroup namespace of its own: its root has a cgroup.type."""
    (mount / "cgroup.type").write_text("domain\n")
    scope = read(mount, mount.parent)
    assert (scope.directory, scope.path, scope.is_whole_host) == (mount, "/", False)
    assert scope.kernel_id == mount.stat().st_ino
    assert scope.contains("/any/of/it")
    assert not scope.contains(None)


def test_without_cgroup_v2_only_the_whole_host_can_be_watched(mount: Path) -> None:
    assert find_scope("", DEFAULT_CGROUP_PATH) == WHOLE_HOST
    versions = f"cgroup {mount / 'memory'} cgroup rw,memory 0 0\n"
    assert find_scope(versions, mount) == WHOLE_HOST  # As /host/cgroup in a container.
    assert WHOLE_HOST.contains(None) and WHOLE_HOST.is_there()
    (mount / "memory/shop").mkdir(parents=True)
    for path in (mount / "memory", mount / "memory/shop"):
        with pytest.raises(ScopeError):
            find_scope(versions, path)


def test_what_is_not_a_cgroup_is_refused_in_one_sentence(mount: Path, tmp_path: Path) -> None:
    (mount / SERVICE / "cgroup.procs").write_text("")
    deep = mount.joinpath(*["a"] * MAX_LEVELS)
    deep.mkdir(parents=True)
    cases = {
        tmp_path / "elsewhere": "is not a directory of cgroup v2 and has no mount of it below",
        mount / "gone.service": "cannot be read (No such file or directory)",
        mount / SERVICE / "cgroup.procs": "is not a directory",
        mount / "hidden/shop.service": "is not a directory of cgroup v2",
        deep: f"is more than {MAX_LEVELS - 1} levels below the root",
    }
    for path, why in cases.items():
        with pytest.raises(ScopeError) as refusal:
            read(mount, path, f"tmpfs {mount / 'hidden'} tmpfs rw 0 0")
        assert refusal.value.observed.startswith(f"{path}, which {why}")
        assert str(refusal.value).endswith("or leave it out to watch the whole host.")
    assert read(mount, deep.parent).path == f"/{'/'.join(['a'] * (MAX_LEVELS - 1))}"


def test_a_scope_contains_what_is_below_it_alone(mount: Path) -> None:
    scope = watch_cgroup(mount / SERVICE, mount)
    assert scope.contains(f"/{SERVICE}") and scope.contains(f"/{SERVICE}/worker")
    for outside in ("/", "/system.slice", f"/{SERVICE}.d", "/user.slice", None):
        assert not scope.contains(outside)
    assert watch_host(mount).contains("/user.slice") and watch_host(mount).contains(None)


def test_scopes_overlap_where_one_is_in_the_other(mount: Path) -> None:
    def number(path: str) -> int:
        return (mount / path).stat().st_ino

    scope = watch_cgroup(mount / SERVICE, mount)
    for path in (".", "system.slice", SERVICE, f"{SERVICE}/worker"):
        assert scope.find_overlap(number(path)) == ("/" if path == "." else f"/{path}")
    assert scope.find_overlap(number(f"{SERVICE}.d")) == ""
    assert scope.find_overlap(2**40) == ""  # Gone.
    assert watch_host(mount).find_overlap(number(SERVICE)) == f"/{SERVICE}"
    assert watch_host(mount).find_overlap(2**40) == WHOLE_HOST.find_overlap(2**40) == f"cgroup {2**40}"


def test_processes_of_a_scope_are_those_of_all_its_cgroups(mount: Path) -> None:
    scope = watch_cgroup(mount / SERVICE, mount)
    assert scope.read_pids() == frozenset()
    (mount / SERVICE / "cgroup.procs").write_text("12\n1300\n")
    (mount / SERVICE / "worker/cgroup.procs").write_text("7\n")
    (mount / "system.slice/cgroup.procs").write_text("8\n")
    assert scope.read_pids() == {7, 12, 1300}
    assert watch_host(mount).read_pids() is None
    (mount / SERVICE / "worker/cgroup.procs").write_text("7\n0\n")  # Of a process namespace that is not this one's.
    assert scope.read_pids() is None


def test_a_cgroup_of_the_same_name_is_another_one(mount: Path) -> None:
    scope = watch_cgroup(mount / SERVICE, mount)
    assert scope.is_there()
    (mount / SERVICE).rename(mount / "before")
    assert not scope.is_there()
    (mount / SERVICE).mkdir()
    assert not scope.is_there()
