"""An MCP server and its agents: at work, polling, retrying, waiting; and those that are stuck or led astray.

Agents that a model drives think for seconds, ever differently, between two calls. Programs sleep for as long each time,
and a busy host adds a little. What is stuck repeats one call or a cycle of some; what is led astray tries all tools.
"""

from collections.abc import Callable, Iterator
from random import Random

from scripts.bench_cases.requesting.scene import Scene, to_json

PEOPLE = 300
ATTACKS_EACH = 1
THINGS = ("issue", "file", "branch", "page", "build", "job")
TOOLS = tuple(f"{verb}_{thing}" for verb in ("get", "list", "create", "close") for thing in THINGS)
Use = tuple[float, str, dict[str, object]]  # Seconds since the last one, tool, arguments.


def _think(random: Random, seconds: float, spread: float = 0.6) -> float:
    """As long as a model takes for its next call."""
    return seconds * random.lognormvariate(0, spread)


def _sleep(random: Random, seconds: float) -> float:
    """As a program does; now and then its host is busy."""
    return seconds + random.expovariate(40) + (random.uniform(0, 2) if random.random() < 0.03 else 0)


def _work(random: Random) -> Iterator[Use]:
    """Reads, edits and tests: the same test again and again, after something else each time."""
    mine = random.sample(TOOLS, random.randrange(3, 10))
    for _ in range(random.randrange(10, 60)):
        yield _think(random, 6), random.choice(mine), {"path": f"src/{random.randrange(40)}.py"}
        if random.random() < 0.4:
            yield _think(random, 4), "get_build", {}
        if random.random() < 0.2:
            yield _think(random, 4), "list_branch", {}


def _browse(random: Random) -> Iterator[Use]:
    """Looks at the page after each step."""
    for _ in range(random.randrange(10, 50)):
        yield _think(random, 5), "create_page", {"click": f"e{random.randrange(90)}"}
        for _ in range(random.choice((1, 1, 1, 2))):
            yield _think(random, 3), "get_page", {}


def _poll(random: Random) -> Iterator[Use]:
    """A program waits for a job."""
    pace, job = random.choice((1, 2, 5, 10, 30)), random.randrange(10**6)
    for _ in range(random.randrange(20, 300)):
        yield _sleep(random, pace), "get_job", {"job": job}


def _back_off(random: Random) -> Iterator[Use]:
    job = random.randrange(10**6)
    for number in range(random.randrange(4, 30)):
        yield _sleep(random, min(2.0**number, 30)), "get_job", {"job": job}


def _show(random: Random) -> Iterator[Use]:
    """A page of figures asks for three in turn."""
    pace = random.choice((5, 10, 15))
    for _ in range(random.randrange(20, 200)):
        yield _sleep(random, pace), "list_job", {"state": "open"}
        yield 0.05 + random.expovariate(50), "list_build", {"state": "open"}
        yield 0.05 + random.expovariate(50), "list_issue", {"state": "open"}


def _ask_again(random: Random) -> Iterator[Use]:
    """A model waits for a job, and asks some times whether it is done."""
    yield _think(random, 6), "create_job", {"name": f"n{random.randrange(99)}"}
    for _ in range(random.randrange(2, 12)):
        yield _think(random, 8), "get_job", {"job": 1}
    yield _think(random, 6), "close_job", {"job": 1}


def _retry(random: Random) -> Iterator[Use]:
    """Some calls fail, and are tried again at once."""
    for _ in range(random.randrange(5, 20)):
        issue = {"issue": random.randrange(10**6)}
        for _ in range(random.choice((1, 1, 1, 3, 5))):
            yield _think(random, 1, 0.3), "get_issue", issue


def _serve_many(random: Random) -> Iterator[Use]:
    """A service behind which many people ask for the same list, and for other things."""
    for _ in range(random.randrange(50, 200)):
        if random.random() < 0.4:
            yield random.expovariate(0.3), "list_page", {}
        else:
            yield random.expovariate(0.3), "get_page", {"page": random.randrange(200)}


def _inspect(random: Random) -> Iterator[Use]:
    """A developer tries what a server has."""
    for tool in random.sample(TOOLS, random.randrange(4, 12)):
        yield _think(random, 15), tool, {"number": 1}


def _loop(seconds: float, spread: float, cycle: int) -> Callable[[Random], Iterator[Use]]:
    def repeat(random: Random) -> Iterator[Use]:
        steps = [
            (tool, {"path": f"{random.random()}", "deep": {"a": 1, "b": 2}}) for tool in random.sample(TOOLS, cycle)
        ]
        pace = seconds * random.uniform(0.7, 1.5)
        for number in range(random.randrange(80, 250)):
            tool, arguments = steps[number % cycle]
            # Models write the same arguments in another order.
            names = random.sample(list(arguments), len(arguments))
            yield _think(random, pace, spread), tool, {name: arguments[name] for name in names}

    return repeat


def _try_all(seconds: float) -> Callable[[Random], Iterator[Use]]:
    def spread(random: Random) -> Iterator[Use]:
        for tool in random.sample(TOOLS, len(TOOLS)):
            yield _think(random, seconds), tool, {"number": 1}

    return spread


def _guess(random: Random) -> Iterator[Use]:
    """Names that no list has."""
    for number in range(random.randrange(20, 60)):
        yield _think(random, 1), f"admin_{number}", {}


HONEST = (_work, _work, _work, _browse, _poll, _poll, _back_off, _show, _ask_again, _retry, _serve_many, _inspect)
ATTACKS: dict[str, Callable[[Random], Iterator[Use]]] = {
    "tight": _loop(0.2, 0.1, 1),
    "model": _loop(4, 0.6, 1),
    "quick": _loop(1.5, 0.4, 1),
    "even": _loop(5, 0.25, 1),
    "cycle2": _loop(4, 0.6, 2),
    "cycle3": _loop(4, 0.6, 3),
    "cycle4": _loop(3, 0.6, 4),
    "tools": _try_all(1),
    "slowtools": _try_all(8),
    "guess": _guess,
}


def make_agents(scene: Scene) -> None:
    """Honest agents, and each attack ATTACKS_EACH times."""
    listed = [{"name": name, "description": "", "inputSchema": {"type": "object"}} for name in TOOLS]
    scene.call(
        *("user0", "10.20.3.9", 1.0, "POST", "/mcp"),
        body=to_json({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        answer=to_json({"jsonrpc": "2.0", "id": 1, "result": {"tools": listed}}),
    )
    for person in range(PEOPLE):
        _run(scene, f"user{person}", HONEST[person % len(HONEST)](scene.random))
    for name, make in ATTACKS.items():
        for number in range(ATTACKS_EACH):
            _run(scene, f"attack-{name}-{number}", make(scene.random))


def _run(scene: Scene, actor: str, uses: Iterator[Use]) -> None:
    second, address = scene.draw_second(actor), f"10.20.{scene.random.randrange(4, 9)}.{scene.random.randrange(1, 250)}"
    for number, (waits, tool, arguments) in enumerate(uses):
        second += waits
        asked = {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
        }
        told = {"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": "done"}]}}
        scene.call(actor, address, second, "POST", "/mcp", body=to_json(asked), answer=to_json(told))
