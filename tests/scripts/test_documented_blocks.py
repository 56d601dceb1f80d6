"""Each fenced block of the documentation is tried by a test here or by those that run commands, or it is a picture or
what a command prints. Commands that no test runs have a row in tests/documented.py."""

import ast
import configparser
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from collector.cli.models import read_prices
from collector.core.config import load_settings
from collector.inventory.models.prices import PriceList
from common.settings import ConfigError
from scripts.helm.render import KUBERNETES, render
from tests.collector.alerting.test_receivers import open_notifier
from tests.collector.response.proxies import ENVOY
from tests.deploy.chart import need_helm
from tests.deploy.prometheus import need
from tests.documented import BLOCKS, NOT_RUN, OTHERS, ROUTES, SHELL, SHOWN, Block, find_reason
from tests.scripts.test_documented_commands import check_command
from tests.test_docs import ROOT

COMMANDS_MIN = 600


def pick(language: str) -> list[Block]:
    """All blocks of a language."""
    return [block for block in BLOCKS if block.language == language]


def test_each_block_is_run_or_shown() -> None:
    assert [f"{block}: {block.language}" for block in BLOCKS if block.language not in SHELL | OTHERS | SHOWN] == []
    commands = [command for block in BLOCKS if block.language in SHELL for command in block.commands]
    assert len(commands) > COMMANDS_MIN
    assert [str(block) for block in BLOCKS if block.language in SHELL and not block.commands] == []


def test_a_block_that_is_shown_holds_no_command() -> None:
    shown = [block for block in BLOCKS if block.language in SHOWN]
    command = re.compile(r"^(?:[\w-]*\$|apidae|sudo|curl) ", re.MULTILINE)
    assert [str(block) for block in shown if command.search(block.text)] == []


def test_each_reason_is_of_a_command_and_each_test_that_one_names_exists() -> None:
    commands = {(block.page, command) for block in BLOCKS if block.language in SHELL for command in block.commands}
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for page, rows in NOT_RUN.items():
        for start, reason in rows.items():
            assert any(name == page and one.startswith(start) for name, one in commands), f"{page} has no {start}"
            assert find_reason(page, start) == reason, f"{page}: a row before {start} takes its commands"
            assert not reason.startswith("test_") or f"def {reason}(" in tests, reason


@pytest.mark.parametrize("block", [one for one in pick("toml") if "[[prices]]" in one.text], ids=str)
def test_prices_of_models_are_those_of_the_example(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "model-prices.toml"
    path.write_text(block.text)
    prices = read_prices(path)
    assert prices == read_prices(ROOT / "deploy/examples/model-prices.toml")
    assert [one.model for one in PriceList.model_validate(prices).prices] == ["acme-large*", "acme-*"]


@pytest.mark.parametrize("block", [one for one in pick("toml") if "[[prices]]" not in one.text], ids=str)
def test_settings_are_taken(block: Block, tmp_path: Path) -> None:
    for name in re.findall(r'"/etc/apidae/([\w.-]+)"', block.text):
        (tmp_path / name).write_text("https://hooks.example/a")
    path = tmp_path / "collector.toml"
    path.write_text(block.text.replace("/etc/apidae/", f"{tmp_path}/"))
    settings = load_settings({}, config_path=path, environment={"ON_CALL_URL": "https://hooks.example/b"})
    assert settings.model_fields_set == tomllib.loads(block.text).keys()


def test_a_wrong_setting_is_found(tmp_path: Path) -> None:
    path = tmp_path / "collector.toml"
    path.write_text('[[notifiers]]\nkind = "slack"\nurl = "https://a.example"\ncolour = "red"\n')
    with pytest.raises(ConfigError, match="colour"):
        load_settings({}, config_path=path, environment={})


@pytest.mark.parametrize("block", pick("yaml"), ids=str)
def test_yaml_is_of_the_chart_kubernetes_or_envoy(block: Block, tmp_path: Path) -> None:
    document = yaml.safe_load(block.text)
    if isinstance(document, list):
        (documented,) = document
        assert documented in list_envoy_filters(documented["config_discovery"]["config_source"])
    elif "apiVersion" in document:
        assert KUBERNETES.startswith(kubernetes_validate.validate(document, KUBERNETES, strict=True))
        (container,) = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        words = shlex.split(container["command"][-1])
        assert words[0] == "apidae" and check_command(words[1:]) == ""
    else:
        need_helm()
        path = tmp_path / "values.yaml"
        path.write_text(block.text)
        done = render(4, "--values", str(path), "--set", "image.repository=registry.example/a,cluster=a")
        assert done.status == 0, done.errors


def list_envoy_filters(source: dict[str, Any]) -> list[Any]:
    """Those that tests/collector/response/proxies.py runs Envoy with, where the file of blocks is at `source`."""
    deny = source["path_config_source"]["path"]
    (listener,) = yaml.safe_load(ENVOY.format(address="127.0.0.1", port=1, deny=deny))["static_resources"]["listeners"]
    found: list[Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    return found


@pytest.mark.parametrize("block", [block for block in pick("json") if not block.page.startswith(ROUTES)], ids=str)
def test_json_names_a_command(block: Block) -> None:
    (server,) = json.loads(block.text)["mcpServers"].values()
    assert server["command"] == "apidae" and check_command(server["args"]) == ""


@pytest.mark.parametrize("block", pick("jinja"), ids=str)
def test_a_template_is_taken(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "alert.template"
    path.write_text(block.text)
    open_notifier(kind="template", url="https://a.example", template_file=path)


@pytest.mark.parametrize("block", pick("ini"), ids=str)
def test_a_unit_starts_a_command(block: Block) -> None:
    unit = configparser.RawConfigParser()
    unit.read_string(block.text)
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/apidae") and check_command(words) == ""


def test_queries_are_of_prometheus(tmp_path: Path) -> None:
    rules = [{"record": f"a:{number}", "expr": block.text} for number, block in enumerate(pick("promql"))]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "pages", "rules": rules}]}))
    done = subprocess.run([need("promtool"), "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"{len(rules)} rules found" in done.stdout, done.stdout + done.stderr


def test_the_example_of_a_chart_draws_one() -> None:
    (block,) = [block for block in pick("python") if "draw(" in block.text]
    figures = {"observed": [3, 5], "limit": 9, "low": [1, 1], "high": [7, 7], "start": 1_700_000_100}
    *imports, drawn = ast.parse(block.text).body
    assert isinstance(drawn, ast.Expr)
    exec(compile(ast.Module(body=imports, type_ignores=[]), str(block), "exec"), figures)
    chart = eval(compile(ast.Expression(body=drawn.value), str(block), "eval"), figures)
    assert chart.title == "Calls of this consumer" and len(chart.rows) == 2
