"""Names of programs: the table of interpreters, and that no argument's value gets into a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.enrich.processes import INTERPRETERS, MAX_NAME_CHARACTERS, name_program


@pytest.mark.parametrize(
    ("executable", "command_line", "name"),
    [
        ("/usr/sbin/nginx", "nginx: master process /usr/sbin/nginx", "nginx"),
        ("/usr/local/bin/orders (deleted)", "/usr/local/bin/orders --token s3cret", "orders"),
        ("/usr/bin/python3.13", "python3 app.py --password s3cret", "app.py"),
        ("/usr/bin/python3.13", "/usr/bin/python3 -u -W ignore -X dev /srv/shop/app.py", "app.py"),
        ("/usr/bin/python3.13", "python3 -m uvicorn shop:app --port 8080", "uvicorn"),
        ("/usr/bin/python3.13", "python3 -m http.server 8000", "http.server"),
        ("/usr/bin/python3.13", "python3 /opt/shop/__main__.py", "shop"),
        ("/usr/bin/python3.13", "/usr/bin/python3 /usr/bin/gunicorn app:app", "gunicorn"),
        ("/usr/bin/python3.13", "gunicorn: master [shop:app]", "gunicorn"),
        ("/usr/bin/python3.13", "python3 -c print('s3cret')", "python3"),
        ("/usr/bin/python3.13", "python3", "python3"),
        ("/usr/bin/node", "node --max-old-space-size=512 -r dotenv/config server.js", "server.js"),
        ("/usr/bin/node", "node --unknown-option s3cret server.js", "server.js"),
        ("/usr/bin/node", "node -e require('http')", "node"),
        ("/usr/lib/jvm/21/bin/java", "java -Xmx1g -Dtoken=s3cret -cp /a:/b com.acme.Main s3cret", "com.acme.Main"),
        ("/usr/lib/jvm/21/bin/java", "java -Xmx1g -jar /srv/orders.jar --password=s3cret", "orders.jar"),
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
