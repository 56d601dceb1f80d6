"""What a container was made of: the name, tags and digests of its image, out of the reference that a person gave.

Attributes are OpenTelemetry's container.image.name, container.image.tags and container.image.repo_digests. Pure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

NAME_ATTRIBUTE: Final = "container.image.name"
TAGS_ATTRIBUTE: Final = "container.image.tags"
REPO_DIGESTS_ATTRIBUTE: Final = "container.image.repo_digests"
# An image can have any number of tags; more than a few say nothing more.
TEXTS_MAX: Final = 4

# distribution/reference: [domain[:port]/]path[:tag][@digest], path in lower case, of at most 255 characters.
_REFERENCE = re.compile(
    r"(?P<name>(?:(?:[A-Za-z0-9.-]{1,200}|\[[0-9a-fA-F:]{2,45}\])(?::[0-9]{1,5})?/)?[a-z0-9][a-z0-9._/-]{0,254})"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]{1,16}:[0-9a-f]{32,128}))?"
)
_DIGEST = re.compile(r"[a-z0-9]{1,16}:[0-9a-f]{32,128}")
# `docker run 3f1a2b..` names no image but its id, or a part of it.
_IMAGE_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerImage:
    """One image. `repo_digests` are `name@algorithm:hex`, as registries know it."""

    name: str
    tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()

    def attributes(self) -> tuple[tuple[str, str], ...]:
        """Name and value of each attribute; one of several values has a pair for each."""
        return (
            (NAME_ATTRIBUTE, self.name),
            *((TAGS_ATTRIBUTE, tag) for tag in self.tags),
            *((REPO_DIGESTS_ATTRIBUTE, digest) for digest in self.repo_digests),
        )


def read_image(references: Iterable[str], *, digests: Iterable[str] = ()) -> ContainerImage | None:
    """The image of the first reference that has a name, with the tags and digests that others give the same name.

    `digests` are `algorithm:hex` of it, without a name. None where nothing names it. A reference without tag and
    digest means the tag `latest`, as in docker and podman.
    """
    name = ""
    tags: list[str] = []
    repo_digests: list[str] = []
    for reference in references:
        match = _REFERENCE.fullmatch(reference)
        if match is None or _IMAGE_ID.fullmatch(reference) or (name and match["name"] != name):
            continue
        name = match["name"]
        tag = match["tag"] or ("" if match["digest"] else "latest")
        if tag:
            tags.append(tag)
        if match["digest"]:
            repo_digests.append(f"{name}@{match['digest']}")
    if not name:
        return None
    repo_digests += [f"{name}@{digest}" for digest in digests if _DIGEST.fullmatch(digest)]
    return ContainerImage(
        name=name,
        tags=tuple(dict.fromkeys(tags))[:TEXTS_MAX],
        repo_digests=tuple(dict.fromkeys(repo_digests))[:TEXTS_MAX],
    )
