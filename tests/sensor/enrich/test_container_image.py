"""References of images to name, tags and digests."""

import pytest

from sensor.enrich.containers import ContainerImage, read_image

DIGEST = "sha256:" + "cd" * 32


@pytest.mark.parametrize(
    ("reference", "name", "tags", "digests"),
    [
        ("nginx", "nginx", ("latest",), ()),
        ("nginx:1.27-alpine", "nginx", ("1.27-alpine",), ()),
        ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c", ("v1",), ()),
        ("registry.example:5000/shop", "registry.example:5000/shop", ("latest",), ()),
        ("[2001:db8::1]:5000/shop:2", "[2001:db8::1]:5000/shop", ("2",), ()),
        (f"nginx@{DIGEST}", "nginx", (), (f"nginx@{DIGEST}",)),
        (f"nginx:1.27@{DIGEST}", "nginx", ("1.27",), (f"nginx@{DIGEST}",)),
    ],
)
def test_a_reference(reference: str, name: str, tags: tuple[str, ...], digests: tuple[str, ...]) -> None:
    assert read_image([reference]) == ContainerImage(name=name, tags=tags, repo_digests=digests)


@pytest.mark.parametrize(
    "reference",
    ["", "a b", "nginx:", "nginx@", "Nginx", "sha256:" + "ab" * 32, "ab" * 32, "x" * 300, "a\nb", "nginx\n"],
)
def test_what_is_no_name(reference: str) -> None:
    assert read_image([reference]) is None


def test_other_names_of_the_same_image_are_not_mixed() -> None:
    image = read_image(["nginx:1", "mirror/nginx:2", f"mirror/nginx@{DIGEST}", "nginx:3"], digests=["", "md5"])
    assert image == ContainerImage(name="nginx", tags=("1", "3"))
