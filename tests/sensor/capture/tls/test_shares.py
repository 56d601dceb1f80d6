"""What there is too little of, shared as the tree of cgroups is."""

from hypothesis import given
from hypothesis import strategies as st

from sensor.capture.tls.processes import MAX_LEVELS, CgroupShares

paths = st.lists(st.sampled_from("abc"), max_size=4).map(lambda names: "/" + "/".join(names))


def make_shares(**amounts: int) -> CgroupShares:
    shares = CgroupShares()
    for name, amount in amounts.items():
        shares.add(f"/{name.replace('_', '/')}", amount)
    return shares


def test_who_has_least_comes_first() -> None:
    shares = make_shares(pods_one=5, pods_two=1, system=3)
    assert sorted(["/pods/one", "/pods/two", "/system", "/user"], key=shares.rank) == [
        "/user",
        "/system",
        "/pods/two",
        "/pods/one",
    ]
    assert shares.find_lightest(["/pods/one", "/pods/two"]) == "/pods/two"


def test_cgroups_below_ones_own_give_no_more() -> None:
    """An attacker has a cgroup a file, all below his own; his neighbour has two files in one."""
    shares = make_shares(**{f"pods_evil_{number}": 1 for number in range(100)}, pods_good=2)
    assert shares.is_heavier("/pods/evil/7", "/pods/good")
    assert not shares.is_heavier("/pods/good", "/pods/evil/new")
    assert shares.find_lightest(["/pods/evil/new", "/pods/good"]) == "/pods/good"


def test_one_gives_way_only_where_it_keeps_as_much() -> None:
    shares = make_shares(a=3, b=2, c=1)
    assert not shares.is_heavier("/a", "/b")
    assert shares.is_heavier("/a", "/c")
    assert not shares.is_heavier("/a", "/a")


def test_a_cgroup_and_what_is_below_it_are_beside_each_other() -> None:
    shares = make_shares(a=5, a_b=1)
    assert shares.is_heavier("/a", "/a/b")
    assert not shares.is_heavier("/a/b", "/a")


@given(st.lists(st.tuples(paths, st.integers(1, 5))))
def test_what_is_given_back_leaves_nothing(added: list[tuple[str, int]]) -> None:
    shares = CgroupShares()
    for path, amount in added:
        shares.add(path, amount)
    assert shares.rank("/a")[0] == sum(amount for path, amount in added if path == "/a" or path.startswith("/a/"))
    for path, amount in added:
        shares.add(path, -amount)
    assert set(shares.rank("/a/b/c")) == {0}
    assert not shares._amounts


def test_what_was_long_ago_is_forgotten() -> None:
    shares = make_shares(a=5)
    for _ in range(4):
        shares.halve()
    assert not shares._amounts


def test_a_deep_cgroup_costs_no_more_than_another() -> None:
    shares = CgroupShares()
    shares.add("/x" * 2_000, 1)
    assert len(shares._amounts) == MAX_LEVELS + 1
