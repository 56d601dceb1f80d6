"""Captures with calls at chosen times, for tests of reports."""

from dataclasses import dataclass
from pathlib import Path

from sensor.capture.files.capture_file import CapturedPacket
from sensor.http.http2.frames import PREFACE
from tests.sensor.capture.files.packets import Talk, write_pcap
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_wire import write_data, write_headers, write_settings

SHOP = (bytes((10, 0, 0, 2)), 8080)
PEOPLE = (bytes((10, 0, 0, 3)), 8081)
TLS = (bytes((10, 0, 0, 4)), 443)
# In a request or response, and in no report.
CANARIES = (
    "canary.token.5f2a",
    "canarypassword77",
    "jane.canary@example.org",
    "4111111111111111",
    "canary-session-91",
    "canary_key_0042",
    "123e4567-e89b-12d3-a456-426614174999",
)


@dataclass
class Capture:
    """Packets of connections, each at its own time."""

    packets: list[CapturedPacket]

    def add(self, talk: Talk, seconds: float) -> None:
        """A connection that begins so long after the first."""
        shift = int(seconds * 1e9)
        self.packets += [replace_time(packet, packet.time_ns + shift) for packet in talk.packets]

    def call(
        self,
        request: str,
        response: str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        *,
        seconds: float,
        server: tuple[bytes, int] = SHOP,
        client: bytes = bytes((198, 51, 100, 7)),
    ) -> None:
        """One call on a connection of its own."""
        port = 20_000 + len(self.packets) % 40_000
        talk = Talk(client=(client, port), server=server).open()
        self.add(talk.ask(request.encode()).answer(response.encode()).close(), seconds)

    def write(self, path: Path) -> Path:
        """The file, packets in the order of time."""
        return write_pcap(path, sorted(self.packets, key=lambda packet: packet.time_ns))


def replace_time(packet: CapturedPacket, time_ns: int) -> CapturedPacket:
    return CapturedPacket(time_ns, packet.link_type, packet.data)


def answer(body: str, *, status: str = "200 OK", kind: str = "application/json") -> str:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"


def ask(method: str, path: str, *headers: str, body: str = "", host: str = "shop.example") -> str:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "User-Agent: curl/8.5.0", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
    return "\r\n".join([*lines, "", body])


def make_grpc(calls: int) -> Talk:
    """A connection of HTTP/2 with so many calls of one method."""
    request, response, talk = Encoder(), Encoder(), Talk(server=SHOP).open()
    talk.ask(PREFACE + write_settings()).answer(write_settings())
    for stream in range(1, 2 * calls, 2):
        asked = request.encode(
            [
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", b"/shop.v1.Cart/Add"),
                (b":authority", b"shop.example"),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
            ]
        )
        talk.ask(write_headers(stream, asked) + write_data(stream, bytes(5), is_end=True))
        head = response.encode([(b":status", b"200"), (b"content-type", b"application/grpc")])
        trailer = response.encode([(b"grpc-status", b"0")])
        answered = write_headers(stream, head) + write_data(stream, bytes(5))
        talk.answer(answered + write_headers(stream, trailer, is_end=True))
    return talk.close()


def make_shop(seconds: int = 90) -> Capture:
    """A minute and a half of a shop: honest clients, a scanner, an attacker, open data, TLS and a gap."""
    capture = Capture([])
    person = '{"name": "Jane Canary", "email": "jane.canary@example.org", "card": "4111111111111111"}'
    for second in range(0, seconds, 3):
        client = bytes((198, 51, 100, 10 + second % 40))
        token = "Authorization: Bearer canary.token.5f2a" + str(second % 40)
        capture.call(ask("GET", f"/orders/{1000 + second}", token), answer('{"id": 7}'), seconds=second, client=client)
        if second % 9 == 0:
            path = f"/people/{second}"
            capture.call(ask("GET", path, host="people.example"), answer(person), seconds=second + 0.5, server=PEOPLE)
        if second % 30 == 0:
            login = '{"user": "jane.canary@example.org", "password": "canarypassword77"}'
            cookie = answer('{"ok": true}').replace("\r\n\r\n", "\r\nSet-Cookie: sid=canary-session-91\r\n\r\n", 1)
            capture.call(ask("POST", "/login", body=login), cookie, seconds=second + 1, client=client)
            capture.call(ask("GET", "/basket?api_key=canary_key_0042"), answer("{}"), seconds=second + 1.2)
            capture.call(
                ask("DELETE", "/baskets/123e4567-e89b-12d3-a456-426614174999", "Cookie: sid=canary-session-91"),
                answer("{}", status="500 Oops"),
                seconds=second + 1.4,
            )
    scanner = bytes((203, 0, 113, 66))
    for number in range(120):
        missing = answer("{}", status="404 Not Found")
        capture.call(ask("GET", f"/admin{number}.php"), missing, seconds=10 + number / 4, client=scanner)
    for number in range(12):
        attack = f"/orders?id={number}%27%20UNION%20SELECT%20password%20FROM%20users--"
        capture.call(ask("GET", attack), answer("{}"), seconds=45 + number, client=bytes((203, 0, 113, 67)))
    capture.add(make_grpc(3), 12)
    hello = bytes.fromhex("16030100050100000103") + bytes(40)
    capture.add(Talk(server=TLS).open().ask(hello).answer(bytes.fromhex("1603030005") + bytes(40)).close(), 5)
    lossy = Talk(client=(bytes((10, 0, 0, 9)), 50_000), server=SHOP).open()
    lossy.ask(ask("GET", "/orders/1").encode()).answer(answer("x" * 4_000).encode()).lose(-2)
    lossy.close()
    capture.add(lossy, 8)
    return capture
