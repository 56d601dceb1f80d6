"""A GraphQL service: pages, dashboards and a gateway that asks much, developers, and those who ask for too much.

Shapes vary by seed: how deep pages nest, how often dashboards repeat a field, how many requests a client batches.
"""

from collections.abc import Callable
from random import Random

from scripts.bench_cases.requesting.scene import Scene, to_json

_WORDS = (
    "user",
    "posts",
    "edges",
    "node",
    "comments",
    "author",
    "items",
    "product",
    "reviews",
    "tags",
    "owner",
    "team",
)
_SCHEMA = "query IntrospectionQuery { __schema { types { name fields { name type { name ofType { name } } } } } }"
PEOPLE, EACH = 300, 6


def nest(random: Random, levels: int) -> str:
    """Fields in each other, with fragments on types between some."""
    text = "id name"
    for _ in range(levels - 1):
        inner = f"... on {random.choice(_WORDS).title()} {{ {text} }}" if random.random() < 0.2 else text
        text = f"id {random.choice(_WORDS)}(first: {random.randrange(1, 50)}) {{ {inner} }}"
    return text


def repeat(random: Random, count: int) -> str:
    """One field under aliases."""
    name = random.choice(_WORDS)
    return " ".join(f'a{n}: {name}(id: "{random.randrange(9_999)}") {{ id }}' for n in range(count))


def _one(text: str) -> str:
    return to_json({"query": f"query Page {{ {text} }}", "operationName": "Page", "variables": {}})


def _split_by_fragments(random: Random, levels: int) -> str:
    """As deep, but in fragments of two levels each."""
    parts = [f"fragment F{n} on T {{ id a {{ ...F{n + 1} }} }}" for n in range(levels)]
    return to_json({"query": f"query Page {{ me {{ ...F0 }} }} {' '.join(parts)} fragment F{levels} on T {{ id }}"})


ATTACKS: dict[str, Callable[[Random], tuple[str, str]]] = {
    "depth": lambda random: ("POST", _one(nest(random, random.randrange(35, 200)))),
    "fragments": lambda random: ("POST", _split_by_fragments(random, random.randrange(40, 120))),
    "cycle": lambda random: (
        "POST", to_json({"query": "{ me { ...A } } fragment A on T { b { ...B } } fragment B on T { a { ...A } }"}),
    ),
    "aliases": lambda random: ("POST", _one(repeat(random, random.randrange(80, 600)))),
    "logins": lambda random: ("POST", to_json({"query": "mutation { " + " ".join(
        f'l{n}: login(email: "a@b.example", password: "{random.getrandbits(40):x}") {{ token }}'
        for n in range(random.randrange(70, 150))) + " }"})),
    "fields": lambda random: ("POST", _one("me { " + "name " * random.randrange(100, 2_000) + "}")),
    "directives": lambda random: ("POST", _one("me { name " + "@include(if: true) " * random.randrange(80, 300) + "}")),
    "batch": lambda random: ("POST", to_json(
        [{"query": f'mutation {{ verify(code: "{n:04}") {{ ok }} }}'} for n in range(random.randrange(60, 300))])),
    "form": lambda random: ("FORM", "query=%7B" + "a%7B" * random.randrange(40, 90) + "b" + "%7D" * 90),
    "get": lambda random: ("GET", "%7B" + "a%7B" * random.randrange(40, 90) + "b" + "%7D" * 90),
}  # fmt: skip


def make_graphql(scene: Scene) -> None:
    """Honest callers, and each attack once with three calls."""
    random = scene.random
    deepest, most, batches = random.randrange(8, 16), random.randrange(5, 25), random.randrange(1, 12)
    for person in range(PEOPLE):
        address, actor = scene.draw_address(), f"user{person}"
        kind = random.random()
        for _ in range(EACH):
            second = scene.draw_second(actor)
            body = _one(nest(random, random.randrange(2, deepest + 1)))
            if kind < 0.15:
                body = _one(repeat(random, random.randrange(1, most + 1)))
            elif kind < 0.25:
                body = to_json([{"query": f"{{ {nest(random, 3)} }}"}] * random.randrange(1, batches + 1))
            elif kind < 0.27:
                body = to_json({"query": _SCHEMA})
            answer = to_json({"data": {"user": {"id": person}}})
            scene.call(actor, address, second, "POST", "/graphql", body=body, answer=answer)
    for number, (name, make) in enumerate(ATTACKS.items()):
        actor, address = f"attack-{name}-{number}", scene.draw_address()
        second = scene.draw_second(actor)
        for step in range(3):
            method, body = make(random)
            if method == "GET":
                scene.call(actor, address, second + step, "GET", f"/graphql?query={body}")
                continue
            is_form = method == "FORM"
            media_type = "application/x-www-form-urlencoded" if is_form else "application/json"
            scene.call(actor, address, second + step, "POST", "/graphql", body=body, media_type=media_type)
