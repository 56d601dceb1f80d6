"""Names of programs: the table of interpreters, and that no argument's value gets into a name."""

import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.enrich.program_files import ProgramFiles
from sensor.enrich.programs import INTERPRETERS, MAX_NAME_CHARACTERS, name_program
from tests.sensor.enrich.fakes import READER


@pytest.mark.parametrize(
    ("executable", "command_line", "name"),
    [
        ("/usr/sbin/nginx", "nginx: master process /usr/sbin/nginx", "nginx"),
        ("/usr/local/bin/orders (deleted)", "/usr/local/bin/orders --token s3cret", "orders"),
        ("/usr/bin/python3.13", "python3 app.py --password s3cret", "app.py"),
        ("/usr/bin/python3.13", "/usr/bin/python3 -u -W ignore -X dev /srv/shop/app.py", "app.py"),
        ("/usr/bin/python3.13", "python3 -m uvicorn shop.main:app --port 8080", "shop.main"),
        ("/usr/bin/python3.13", "python3 /usr/bin/uvicorn --port 8080 --app-dir x --reload shop.main:app", "shop.main"),
        ("/usr/bin/python3.13", "python3 -m hypercorn --auth user:s3cret", "hypercorn"),
        ("/usr/bin/python3.13", "python3 -m hypercorn --auth user:s3cret shop:create()", "shop"),
        ("/usr/bin/python3.13", "python3 -m http.server 8000", "http.server"),
        ("/usr/bin/python3.13", "python3 /opt/shop/__main__.py", "shop"),
        ("/usr/bin/python3.13", "/usr/bin/python3 /usr/bin/gunicorn -w 4 app:app", "app"),
        ("/usr/bin/python3.13", "gunicorn: master [shop:app]", "shop"),
        ("/usr/bin/python3.13", "celery: worker", "celery"),
        ("/usr/bin/python3.13", "python3 -c print('s3cret')", "python3"),
        ("/usr/bin/python3.13", "python3", "python3"),
        ("/usr/bin/node", "node --max-old-space-size=512 -r dotenv/config server.js", "server.js"),
        ("/usr/bin/node", "node --unknown-option s3cret server.js", "server.js"),
        ("/usr/bin/node", "node -e require('http')", "node"),
        ("/usr/bin/node", "verdaccio", "verdaccio"),
        ("/usr/lib/jvm/21/bin/java", "java -Xmx1g -Dtoken=s3cret -cp /a:/b com.acme.Main s3cret", "com.acme.Main"),
        ("/usr/lib/jvm/21/bin/java", "java -Xmx1g -jar /srv/orders-2.1.0-SNAPSHOT.jar --password=s3cret", "orders"),
        (
            "/usr/lib/jvm/21/bin/java",
            "java -Dcatalina.base=/var/lib/t -cp a org.apache.Bootstrap start",
            "tomcat",
        ),
        ("/usr/bin/ruby3.3", "ruby -I lib bin/rails server", "rails"),
        ("/usr/bin/php8.4", "php -S 127.0.0.1:8000 router.php", "router.php"),
        ("/usr/bin/bash", "bash -c curl -H s3cret", "sh"),
        ("/usr/bin/deno", "deno run https://u:s3cret@example.org/main.ts?token=s3cret", "main.ts"),
        ("/usr/bin/dotnet", "dotnet /srv/Shop.dll", "Shop.dll"),
        ("/usr/bin/busybox", "httpd -f", "command"),
        ("/memfd:payload (deleted)", "x", "command"),
        ("", "", "command"),
    ],
)
def test_program_has_name(executable: str, command_line: str, name: str) -> None:
    assert name_program(executable=executable, command_line=command_line.split(" "), command="command") == name


@pytest.fixture
def files(tmp_path: Path) -> ProgramFiles:
    """A process in /srv/orders of its own root."""
    process = tmp_path / "70"
    root = process / "root"
    (root / "srv/orders/lib").mkdir(parents=True)
    (process / "cwd").symlink_to("/srv/orders")
    (root / "srv/orders/package.json").write_text('{"name": "@acme/order-desk"}')
    tool = root / "srv/orders/node_modules/npm-store"
    (tool / "bin").mkdir(parents=True)
    (tool / "package.json").write_text('{"name": "npm-store"}')
    (tool / "bin/cli").write_text("")
    (root / "srv/orders/node_modules/.bin").mkdir()
    (root / "srv/orders/node_modules/.bin/store").symlink_to("../npm-store/bin/cli")
    with zipfile.ZipFile(root / "srv/orders/app.jar", "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nImplementation-Title: order-service\r\n")
    for name in ("ROOT", "manager", "billing"):
        (root / "var/lib/tomcat/webapps" / name).mkdir(parents=True)
    (process / "mountinfo").symlink_to("/proc/self/mountinfo")
    return ProgramFiles(READER.read, process, "/it")


@pytest.mark.parametrize(
    ("executable", "command_line", "name"),
    [
        ("/usr/bin/node", "node server.js", "order-desk"),
        ("/usr/bin/node", "node /srv/orders/lib/server.js", "order-desk"),
        ("/usr/bin/node", "node /srv/orders/node_modules/.bin/store --port 80", "npm-store"),
        ("/usr/bin/node", "node /elsewhere/server.js", "server.js"),
        ("/usr/bin/node", "a-title", "order-desk"),
        ("/usr/bin/python3", "python3 -m uvicorn main:app", "orders.main"),
        ("/usr/bin/java", "java -jar app.jar", "order-service"),
        ("/usr/bin/java", "java -jar /elsewhere/app.jar", "app"),
        ("/usr/bin/java", "java -Dcatalina.base=/var/lib/tomcat -cp a org.apache.Bootstrap start", "billing"),
    ],
)
def test_a_program_has_the_name_of_its_package(
    executable: str, command_line: str, name: str, files: ProgramFiles
) -> None:
    arguments = command_line.split(" ")
    assert name_program(executable=executable, command_line=arguments, command="c", files=files) == name


def test_files_that_are_not_plain_are_not_read(files: ProgramFiles, tmp_path: Path) -> None:
    package = tmp_path / "70/root/srv/orders/package.json"
    package.unlink()
    os.mkfifo(package)
    assert files.find_package("server.js") == ""
    package.unlink()
    package.symlink_to("/etc/passwd")
    assert files.find_package("server.js") == ""
    assert ProgramFiles(READER.read, tmp_path / "absent", "/it").find_package("server.js") == ""
    assert ProgramFiles(READER.read, tmp_path / "absent", "/it").read_title("app.jar") == ""


def test_nothing_readable_is_unknown() -> None:
    assert name_program(executable="", command_line=[], command="") == "unknown"


def test_every_interpreter_cites_its_source() -> None:
    assert all(interpreter.source for interpreter in INTERPRETERS)


@given(st.text(max_size=100), st.lists(st.text(max_size=300), max_size=8), st.text(max_size=40))
def test_names_are_bounded_and_safe(executable: str, command_line: list[str], command: str) -> None:
    for path in (executable, "/usr/bin/python3", "/usr/bin/java", "/usr/bin/node"):
        name = name_program(executable=path, command_line=command_line, command=command)
        assert 0 < len(name) <= MAX_NAME_CHARACTERS
        assert name.isascii()
        assert not set(name) & set("/ \n\"'?=&")
