"""Finds where a service takes the rest of a path as one value, and folds what is below there into `{path}`.

Four signs are looked for in the trie of a service's routes, from the root down, before single segments are compared:

- **Files.** Most of what is called below a position are files (names with an extension), in several directories. File
  servers, object stores and static content look so. Only children that hold files are folded, so an API beside them
  stays. Where the children themselves are made or deleted (`PUT /{bucket}`), they are values of one segment, and the
  path begins below them.
- **Names after a path.** The same literals (`manifests`, `blobs`) follow prefixes of different lengths, which are text
  and have nothing else in common. Registries and version control look so. The path is what is before the literal:
  `/v2/{path}/manifests/{reference}`.
- **The same paths elsewhere.** Most of what is called below a position is also called where the rest is a path by
  another sign: a program that has files to read and to describe names them in both.
- **One answer at every depth.** What is answered at a position, with many fields, is answered at several depths below
  it too. Trees of documents look so, as does an endpoint that echoes what it is called with.

The numbers say how much must be seen before a tree is taken for one value. An API whose every route was called once
also has many leaves; it has neither extensions nor the same names at several depths.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Final

from collector.inventory.naming import LITERAL, PATH, WORD
from collector.inventory.templates.path_trie import VALUE, Key, Position, find_key, is_file

PATH_KEY: Final[Key] = (PATH, "", 0)
# So many files, in so many directories, are a tree of files ...
FILES_MIN: Final = 8
NAMED_FILES_MIN: Final = 2  # Of them, with an extension; the others are objects that clients write.
DIRECTORIES_MIN: Final = 2
# ... where they are this share of the leaves.
FILES_SHARE: Final = 0.6
# From so many children on, the children are parts of the path; one or two are places that hold what is below.
CHILDREN_MIN: Final = 3
# A literal follows a path where it follows so many prefixes of so many lengths, and most prefixes have it.
PREFIXES_MIN: Final = 4
LENGTHS_MIN: Final = 2
NAMES_MIN: Final = 2
NAMES_SHARE: Final = 0.7
DEPTH_MAX: Final = 12
# Methods that make or delete what a segment names.
_WRITES: Final = frozenset(("PUT", "POST", "DELETE"))
_Path = tuple[Key, ...]
_Counts = dict[int, tuple[int, int]]  # (leaves, files) by id of the position, which lives as long as the trie.


def fold_whole_paths(root: Position) -> None:
    """Folds all trees below `root` that are one value."""
    counts: _Counts = {}
    _count_leaves(root, counts)
    pending = [root]
    while pending:
        position = pending.pop()
        if not _fold_answers(position) and len(position.children) >= CHILDREN_MIN and not _fold_files(position, counts):
            _fold_prefixes(position)
        pending += [child for key, child in position.children.items() if key != PATH_KEY]
    _fold_known(root)


def _fold_known(root: Position) -> None:
    """Folds where most paths are ones that were folded elsewhere."""
    folded: set[_Path] = set()
    others: list[Position] = []
    pending = [(root, 0)]
    while pending:
        position, depth = pending.pop()
        if PATH_KEY in position.children:
            routes = (one.route for one in position.children[PATH_KEY].routes if one.served_calls)
            folded.update(tuple(map(find_key, route.segments[depth:])) for route in routes)
        elif len(position.children) >= CHILDREN_MIN:
            others.append(position)
        pending += [(child, depth + 1) for key, child in position.children.items() if key != PATH_KEY]
    first = {path[0] for path in folded if path}
    for position in others:
        if sum(key in first for key in position.children) >= CHILDREN_MIN:
            paths = list(_list_paths(position))
            if sum(path in folded for path in paths) >= max(CHILDREN_MIN, NAMES_SHARE * len(paths)):
                _fold(position, {key: child for key, child in position.children.items() if key in first})


def _count_leaves(position: Position, counts: _Counts) -> tuple[int, int]:
    """Served leaves below a position, and those of them that are files; `counts` gets these of all positions below."""
    leaves = files = 0
    for key, child in position.children.items():
        if child.children:
            found = _count_leaves(child, counts)
        else:
            found = (int(child.served > 0), int(child.served > 0 and (is_file(key) or _is_object(child, position))))
        counts[id(child)] = found
        leaves, files = leaves + found[0], files + found[1]
    return leaves, files


def _fold_files(position: Position, counts: _Counts) -> bool:
    holding = {key: child for key, child in position.children.items() if _holds_files(counts.get(id(child), (0, 0)))}
    if len(holding) < CHILDREN_MIN:
        return False
    files = objects = directories = 0
    for key, child in holding.items():
        own, stored, parents = _count_files(key, child)
        files, objects, directories = files + own, objects + stored, directories + parents
    directories += any(not child.children for child in holding.values())
    if files < NAMED_FILES_MIN or files + objects < FILES_MIN or directories < DIRECTORIES_MIN:
        return False
    if sum(_is_written(child) for child in holding.values()) * 2 > len(holding):
        target = position.children.setdefault(VALUE, Position())
        for key in holding:
            target.absorb(position.children.pop(key))
        position = target
        holding = dict(target.children)
    _fold(position, holding)
    return True


def _fold(position: Position, folded: dict[Key, Position]) -> None:
    target = position.children.setdefault(PATH_KEY, Position())
    for key in folded:
        pending = [position.children.pop(key)]
        while pending:
            node = pending.pop()
            target.routes += node.routes
            pending += node.children.values()
    target.calls = sum(evidence.calls for evidence in target.routes)
    target.served = sum(evidence.served_calls for evidence in target.routes)


def _is_written(child: Position) -> bool:
    return bool(child.list_served_methods() & _WRITES) and bool(child.children)


def _is_object(child: Position, parent: Position) -> bool:
    """Whether clients write here and read it again, in what is no collection that the API lists."""
    return {"PUT", "GET"} <= child.list_served_methods() and not parent.list_served_methods()


def _holds_files(count: tuple[int, int]) -> bool:
    """Whether most of the leaves at and below a child are files."""
    leaves, files = count
    return files > 0 and files >= FILES_SHARE * leaves


def _count_files(key: Key, child: Position) -> tuple[int, int, int]:
    """Files and other stored objects at and below a child, and the directories below `child` that they are in."""
    files, objects, directories = 0, 0, set()
    for last, node, parent in _walk(key, child):
        is_stored = parent is not None and _is_object(node, parent)
        if node.served and not node.children and (is_file(last) or is_stored):
            files, objects = files + is_file(last), objects + (not is_file(last))
            if parent is not None:
                directories.add(id(parent))
    return files, objects, len(directories)


def _walk(key: Key, child: Position) -> Iterator[tuple[Key, Position, Position | None]]:
    pending: list[tuple[Key, Position, Position | None]] = [(key, child, None)]
    while pending:
        one = pending.pop()
        yield one
        pending += [(below, node, one[1]) for below, node in one[1].children.items()]


def _fold_answers(position: Position) -> bool:
    own = position.list_rich_answers()
    if not own:
        return False
    paths = list(_list_paths(position))
    same = {path for path in paths if _find_below(position, path).list_rich_answers() & own}
    if len(same) < CHILDREN_MIN or len({len(path) for path in same}) < LENGTHS_MIN:
        return False
    others = [path for path in paths if path not in same]
    names = frozenset(path[-1][1] for path in others if path[:-1] in same and path[-1][0] == LITERAL)
    if len(same) < FILES_SHARE * (len(same) + sum(path[-1][1] not in names for path in others)):
        return False
    target = Position()
    for key in list(position.children):
        _move_below(position.children.pop(key), names, target)
    position.children[PATH_KEY] = target
    return True


def _find_below(position: Position, path: _Path) -> Position:
    for key in path:
        position = position.children[key]
    return position


def _fold_prefixes(position: Position) -> None:
    names = _find_following_names(position)
    if not names:
        return
    target = Position()
    for key in [key for key in position.children if key[1] not in names]:
        if any(last[1] in names for last, _, _ in _walk(key, position.children[key])):
            _move_below(position.children.pop(key), names, target)
    position.children[PATH_KEY] = target


def _move_below(source: Position, names: frozenset[str], target: Position) -> None:
    """What follows the path goes below `target`, and routes that end in the path end there."""
    target.routes += source.routes
    target.calls += source.calls
    target.served += source.served
    for key, child in source.children.items():
        if key[0] == LITERAL and key[1] in names:
            target.children.setdefault(key, Position()).absorb(child)
        else:
            _move_below(child, names, target)


def _find_following_names(position: Position) -> frozenset[str]:
    """Literals that follow a whole path below `position`; empty where there is none."""
    if not _has_varied_depth(position):
        return frozenset()
    prefixes: dict[str, set[_Path]] = defaultdict(set)
    paths = list(_list_paths(position))
    for path in paths:
        for number, key in enumerate(path):
            if number and key[0] == LITERAL:
                prefixes[key[1]].add(path[:number])
    names = {
        name
        for name, found in prefixes.items()
        if len(found) >= PREFIXES_MIN and len({len(one) for one in found}) >= LENGTHS_MIN
    }
    if len(names) < NAMES_MIN:
        return frozenset()
    following: dict[_Path, set[str]] = defaultdict(set)
    for path in paths:
        place = next((number for number, key in enumerate(path) if key[0] == LITERAL and key[1] in names), 0)
        if place:
            following[path[:place]].add(path[place][1])
    if len({prefix[0] for prefix in following}) < CHILDREN_MIN or not all(map(_is_text, chain(*following))):
        return frozenset()
    counts = {name: sum(name in own for own in following.values()) for name in names}
    kept = frozenset(name for name, count in counts.items() if count >= NAMES_SHARE * len(following))
    lengths = {len(prefix) for prefix in following}
    # What makes some prefixes longer must vary too: `/{ledger}/api/report` beside `/{ledger}/report` is an API.
    longer = [prefix for prefix in following if len(prefix) > min(lengths)]
    if len({prefix[-1] for prefix in longer}) * 2 < len(longer):
        return frozenset()
    is_path = len(kept) >= NAMES_MIN and len(following) >= PREFIXES_MIN and len(lengths) >= LENGTHS_MIN
    return frozenset(names) if is_path else frozenset()


def _has_varied_depth(position: Position) -> bool:
    """Whether enough literals stand at several depths, which is cheap to see and rare."""
    depths: dict[str, set[int]] = defaultdict(set)
    pending = [(child, 1) for child in position.children.values()]
    while pending:
        node, depth = pending.pop()
        for key, child in node.children.items():
            if key[0] == LITERAL:
                depths[key[1]].add(depth)
            if depth < DEPTH_MAX:
                pending.append((child, depth + 1))
    return sum(len(own) >= LENGTHS_MIN for own in depths.values()) >= NAMES_MIN


def _is_text(key: Key) -> bool:
    """Whether a segment may be part of a path that a client chose. What begins with a sign is the server's own."""
    return key[0] == WORD or (key[0] == LITERAL and "{}" not in key[1] and key[1][:1].isalnum())


def _list_paths(position: Position, before: _Path = ()) -> Iterator[_Path]:
    """Paths below a position that were served."""
    if len(before) > DEPTH_MAX:
        return
    for key, child in position.children.items():
        path = (*before, key)
        if any(evidence.served_calls for evidence in child.routes):
            yield path
        yield from _list_paths(child, path)
