"""Demo service: the gateway. It passes calls on by the first words of their path, and names the client in
X-Forwarded-For as proxies do. That it passes on `/internal` is the demo's misconfiguration.
"""

from scripts.demo.web import GATEWAY_ADDRESS, Handler, call, read_ports, serve

# The first prefix that fits. Services that do not run here are no route.
ROUTES = tuple(
    (prefix, service)
    for prefix, service in (
        ("/login", "accounts"),
        ("/api/v1/orders", "orders"),
        ("/api/v2/users", "users"),
        ("/internal/users", "users"),
        ("/products", "catalog"),
        ("/cart", "cart"),
    )
    if service in read_ports()
)
PASSED_ON = ("Authorization", "Cookie", "X-API-Key", "User-Agent")


def respond(handler: Handler) -> None:
    """Passes any call on."""
    path = "/" + "/".join(handler.words)
    service = next((service for prefix, service in ROUTES if path.startswith(prefix)), "")
    if not service:
        return handler.answer(404, {"error": "no such page"})
    headers = {name: value for name in PASSED_ON if (value := handler.headers.get(name))}
    hops = (handler.headers.get("X-Forwarded-For"), handler.client_address[0])
    headers["X-Forwarded-For"] = ", ".join(filter(None, hops))
    status, body = call(
        service,
        handler.command,
        handler.path,
        headers=headers,
        document=handler.document or None,
        source=GATEWAY_ADDRESS,
    )
    return handler.send_bytes(status, body)


if __name__ == "__main__":
    serve(respond)
