"""What `scripts/release` makes of a tag, and what it refuses; the images have tests of their own."""

import gzip
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from scripts.containers.release import Release, find_faults, main, pack_again

FILES = {
    "pyproject.toml": '[project]\nversion = "1.2.3"\n',
    "deploy/helm/apidae/Chart.yaml": "version: 1.2.3\nappVersion: 1.2.3\n",
}


def run_git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "tag.gpgSign=false")
    subprocess.run(["git", *identity, "-C", str(root), *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    run_git(tmp_path, "init", "--quiet")
    run_git(tmp_path, "add", "--all")
    run_git(tmp_path, "commit", "--quiet", "--message", "all: begin")
    return tmp_path


def test_a_tag_that_is_checked_out_has_no_faults(checkout: Path) -> None:
    run_git(checkout, "tag", "v1.2.3")
    assert find_faults("v1.2.3", checkout) == []


def test_each_fault_is_a_sentence(checkout: Path) -> None:
    run_git(checkout, "tag", "v1.2.4")
    (checkout / "pyproject.toml").write_text('[project]\nversion = "1.2.5"\n')
    assert find_faults("1.2.3", checkout) == [
        "the tag 1.2.3 is not v and a version, as in v0.2.0",
        "there is no tag 1.2.3: git tag --sign 1.2.3",
        "the checkout has changes: git stash, or commit them before the tag",
        "pyproject.toml has version 1.2.5, and the tag is 1.2.3",
    ]
    run_git(checkout, "commit", "--quiet", "--all", "--message", "all: 1.2.5")
    assert find_faults("v1.2.4", checkout) == [
        "the tag v1.2.4 is not what is checked out: git checkout v1.2.4",
        "pyproject.toml has version 1.2.5, and the tag is v1.2.4",
        "the chart's appVersion is 1.2.3, and the tag is v1.2.4",
    ]


def test_a_dry_run_makes_nothing_and_says_what_it_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "dist"
    status = main(["v99.0.0", "--dry-run", "--repository", "registry.example/a/apidae", "--to", str(target)])
    printed = capsys.readouterr()
    assert status == 1 and "there is no tag v99.0.0" in printed.err
    assert not target.exists()
    assert f"scripts/images --build --oci {target} --repository registry.example/a/apidae" in printed.out
    assert "would make apidae-" in printed.out and "sha256sum" in printed.out
    for name in ("sensor.tar", "collector.tar", "sensor.spdx.json", "collector.spdx.json"):
        assert name in printed.out
    assert "Nothing was signed or published." in printed.out
    assert "docker://registry.example/a/apidae-sensor:99.0.0" in printed.out
    assert "oci://registry.example/a\n" in printed.out


def test_a_release_with_faults_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["v99.0.0", "--to", str(tmp_path / "dist")]) == 1
    assert not (tmp_path / "dist").exists()
    assert "made" not in capsys.readouterr().out


def test_the_chart_is_the_same_whenever_it_was_packed(tmp_path: Path) -> None:
    packed = []
    for number, names in enumerate((("apidae/Chart.yaml", "apidae/a.yaml"), ("apidae/a.yaml", "apidae/Chart.yaml"))):
        path = tmp_path / f"{number}.tgz"
        with tarfile.open(path, "w:gz") as archive:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime, entry.uid, entry.uname = 4, 1_700_000_000 + number, 1000 + number, f"u{number}"
                archive.addfile(entry, BytesIO(name[-4:].encode()))
        pack_again(path, 1_600_000_000)
        packed.append(path.read_bytes())
    assert packed[0] == packed[1]
    with tarfile.open(fileobj=BytesIO(gzip.decompress(packed[0]))) as archive:
        assert [(entry.name, entry.mtime) for entry in archive] == [
            ("apidae/Chart.yaml", 1_600_000_000),
            ("apidae/a.yaml", 1_600_000_000),
        ]
        file = archive.extractfile("apidae/a.yaml")
        assert file is not None and file.read() == b"yaml"


def test_everything_that_is_made_is_in_the_checksums(tmp_path: Path) -> None:
    release = Release(tag="v1.2.3", repository="registry.example/apidae", directory=tmp_path)
    *_, (_, sums) = release.list_steps()
    assert sums[1:] == release.list_files()
    assert len(release.list_files()) == 5


def test_the_commands_sign_what_was_made(tmp_path: Path) -> None:
    release = Release(tag="v1.2.3", repository="registry.example/apidae", directory=tmp_path)
    index = b'{"manifests": [{"digest": "sha256:abc"}]}'
    with tarfile.open(tmp_path / "sensor.tar", "w") as archive:
        entry = tarfile.TarInfo("index.json")
        entry.size = len(index)
        archive.addfile(entry, BytesIO(index))
    commands = "\n".join(release.list_publishing())
    assert "registry.example/apidae-sensor:1.2.3@sha256:abc" in commands
    assert "registry.example/apidae-collector:1.2.3@DIGEST" in commands
