"""A service that fetches what callers name: previews and webhooks outside, tools inside, and forged requests.

The service also calls its own database of accounts, its sidecar and its cloud's credentials, whatever callers say.
"""

from collections.abc import Callable
from ipaddress import IPv4Address
from random import Random
from urllib.parse import quote

from scripts.bench_cases.requesting.scene import SECONDS, Scene, to_json

METADATA = "169.254.169.254"
PEOPLE, EACH = 300, 6
_SITES = ("news.example", "cdn.example", "hooks.partner.example", "img.shop.example")


def _octal(address: str) -> str:
    return ".".join(f"0{int(part):o}" for part in address.split("."))


def _mapped(address: str) -> str:
    return f"[::ffff:{int(IPv4Address(address)) >> 16:x}:{int(IPv4Address(address)) & 0xFFFF:x}]"


# How an attacker writes an address, with what clients send as Host.
FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda address: address,
    "decimal": lambda address: str(int(IPv4Address(address))),
    "hex": lambda address: hex(int(IPv4Address(address))),
    "octal": _octal,
    "mapped": _mapped,
    "name": lambda address: f"{address}.nip.io",
    "dashed": lambda address: f"{address.replace('.', '-')}.sslip.io",
    "rebinding": lambda address: "r4f2.rebind.example",
    "user": lambda address: f"news.example@{address}",
    "escaped": lambda address: "".join(f"%{ord(sign):02x}" for sign in address),
}


def make_fetching(scene: Scene) -> None:
    """Honest callers, and each form to credentials, loopback and a private address."""
    random = scene.random
    for second in range(5, SECONDS, 45):
        scene.reach(second + random.random(), "accounts.svc", "10.20.0.9")
        scene.reach(second + random.random(), "localhost:8181", "127.0.0.1", 8181)
        if second % 900 == 5:
            scene.reach(second, METADATA, METADATA, method="PUT")
    for person in range(PEOPLE):
        actor, address = f"user{person}", scene.draw_address()
        is_tool = person < 6
        for _ in range(EACH):
            _use(scene, random, actor, f"10.20.3.{person + 1}" if is_tool else address, is_tool=is_tool)
    for number, (form, write) in enumerate(FORMS.items()):
        for target, port in (
            (METADATA, 80),
            ("127.0.0.1", random.randrange(3_000, 9_999)),
            (f"10.20.7.{number + 1}", 8_500),
        ):
            _forge(scene, random, f"attack-{form}-{number}{target[:2]}", write(target), target, port)
    _redirect(scene, random)


def _use(scene: Scene, random: Random, actor: str, address: str, *, is_tool: bool) -> None:
    second, site = scene.draw_second(actor), random.choice(_SITES)
    kind = random.random()
    if is_tool:  # A job inside, which has the service call the hosts of teams.
        number = random.randrange(1, 40)
        scene.call(actor, address, second, "POST", "/hooks", body=to_json({"url": f"http://team{number}.svc/hook"}))
        scene.reach(second + 0.1, f"team{number}.svc", f"10.20.9.{number}")
    elif kind < 0.5:
        scene.call(
            actor, address, second, "GET", f"/preview?url={quote(f'https://{site}/a/{random.randrange(99)}', '')}"
        )
        scene.reach(second + 0.1, site, f"93.184.216.{_SITES.index(site) + 1}", 443)
    elif kind < 0.7:
        scene.call(actor, address, second, "POST", "/hooks", body=to_json({"target": {"url": f"https://{site}/in"}}))
    elif kind < 0.8:
        scene.call(
            actor, address, second, "GET", "/login?next=http%3A%2F%2Flocalhost%3A3000%2F&issuer=http://accounts.svc/"
        )
        scene.reach(second + 0.1, "accounts.svc", "10.20.0.9")
    else:
        scene.call(
            actor, address, second, "GET", f"/items?page={random.randrange(9)}&version=10.{random.randrange(9)}.1.2"
        )


def _forge(scene: Scene, random: Random, actor: str, host: str, target: str, port: int) -> None:
    second, address = scene.draw_second(actor), scene.draw_address()
    url = f"http://{host}{'' if port == 80 else f':{port}'}/latest/"
    if random.random() < 0.5:
        scene.call(actor, address, second, "GET", f"/preview?url={quote(url, '')}")
    else:
        scene.call(actor, address, second, "POST", "/hooks", body=to_json({"target": {"url": url}}))
    sent = target if "%" in host or "@" in host else host
    after = random.choice((0.001, 0.2, 1.5))
    scene.reach(second + after, sent if port == 80 else f"{sent}:{port}", target, port)


def _redirect(scene: Scene, random: Random) -> None:
    second, address = scene.draw_second("attack"), scene.draw_address()
    scene.call("attack-redirect-0", address, second, "GET", "/preview?url=http%3A%2F%2Fshort.example%2Fa")
    scene.reach(second + 0.1, "short.example", "93.184.216.99")
    scene.reach(second + 0.3, METADATA, METADATA)
