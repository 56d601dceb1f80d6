"""What the page's routes share: the way to the sign-in, our own paths, small forms."""

from urllib.parse import parse_qs, quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from collector.api.problem import Problem

FORM_BYTES_MAX = 4_096


def to_login(request: Request) -> Response:
    """Sign in, then come back here. What htmx asks for would be swapped in as nothing, so it is told to leave."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    login = f"/login?next={quote(here, safe='')}"
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"hx-redirect": login})
    return RedirectResponse(login, status_code=303)


def own_path(text: str) -> str:
    """A path on this collector, or the front page: never another site's address."""
    is_own = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if is_own else "/"


async def read_form(request: Request) -> dict[str, str]:
    """Fields of a small urlencoded form; the last of a name counts. Raises a 422 problem when it is larger."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise Problem(422, f"The form is larger than {FORM_BYTES_MAX} bytes; send only the page's own fields.")
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise Problem(422, "The form has more than 20 fields; send only the page's own.") from None
    return {name: values[-1] for name, values in fields.items()}
