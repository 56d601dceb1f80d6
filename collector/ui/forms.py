"""What the page's routes share: our own paths, and forms."""

from urllib.parse import parse_qs

from fastapi import Request

from collector.api.problem import Problem


def own_path(text: str) -> str:
    """A path on this collector, or the front page: never another site's address."""
    is_own = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if is_own else "/"


async def read_form(request: Request) -> dict[str, str]:
    """Fields of an urlencoded form; the last of a name counts. Raises a 422 problem when there are too many."""
    body = (await request.body()).decode("utf-8", "replace")
    try:
        fields = parse_qs(body, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise Problem(422, "The form has more than 20 fields; send only the page's own.") from None
    return {name: values[-1] for name, values in fields.items()}
