"""Settings: precedence, and one sentence for whatever is wrong."""

from pathlib import Path

import pytest

from collector.core.config import is_loopback, join_address, load_settings
from collector.core.destinations import PagerDutyNotifier, SlackNotifier
from common.settings import ConfigError, split_address


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('data_dir = "/file"\nhttp_listen = "127.0.0.1:1"\ndisk_limit_bytes = 300000000\n')
    environment = {"APIDAE_COLLECTOR_DATA_DIR": "/environment", "APIDAE_COLLECTOR_HTTP_LISTEN": "127.0.0.1:2", "X": "y"}
    settings = load_settings({"data_dir": "/flag", "no_auth": None}, config_path=file, environment=environment)
    assert str(settings.data_dir) == "/flag"
    assert settings.http_listen == "127.0.0.1:2"
    assert settings.disk_limit_bytes == 300_000_000
    assert settings.grpc_listen == "127.0.0.1:7443"


@pytest.mark.parametrize(
    ("flags", "environment", "named"),
    [
        ({}, {"APIDAE_COLLECTOR_DATA_DRI": "x"}, "APIDAE_COLLECTOR_DATA_DRI .*did you mean APIDAE_COLLECTOR_DATA_DIR"),
        ({"disk_limit_bytes": "many"}, {}, "disk_limit_bytes is 'many' .*--disk-limit-bytes"),
        (
            {},
            {"APIDAE_COLLECTOR_GRPC_LISTEN": "nine"},
            "grpc_listen is 'nine' .*APIDAE_COLLECTOR_GRPC_LISTEN.*HOST:PORT",
        ),
        ({"ca_key_file": "/k.pem"}, {}, "ca_key_file needs ca_cert_file"),
        ({"ca_cert_file": "/c.pem"}, {}, "ca_cert_file alone makes no certificate; set ca_key_file"),
        ({"no_auth": True, "sensor_auth": "token"}, {}, "no_auth and sensor_auth token contradict"),
        ({"tls_server_names": "a b"}, {}, "tls_server_names .*'a b', which is no host name or address"),
        ({"kubernetes_enrollment_accounts": "sensor"}, {}, "has 'sensor'; each must be NAMESPACE/SERVICEACCOUNT"),
        ({"http_listen": "[::]:1", "no_auth": True}, {}, "no_auth works on loopback only"),
        ({"time_zone": "Mars/Olympus"}, {}, "time_zone is 'Mars/Olympus'.* no time zone of the IANA database"),
        ({"time_zone": "Europe"}, {}, "time_zone is 'Europe'.*write it as Europe/Berlin or UTC"),
        ({"time_zone": "../../etc/passwd"}, {}, "time_zone is .* no time zone"),
        ({}, {"APIDAE_COLLECTOR_TIME_ZONE": ""}, "time_zone is ''.* no time zone"),
        ({"tls_cert_file": "/c.pem"}, {}, "belong together"),
        ({}, {"APIDAE_COLLECTOR_DATA_DIR": ""}, "data_dir is ''.*must name a file or a directory"),
        ({"other_clusters": "west"}, {}, "other_clusters is 'west'.*must be CLUSTER=KUBECONFIG"),
        ({"cluster": "west", "other_clusters": "west=/w"}, {}, "other_clusters names west, which is this cluster"),
        ({"kubernetes": "maybe"}, {}, "kubernetes is 'maybe'"),
        ({"log_level": "loud"}, {}, "log_level is 'loud'"),
        ({"consumer_order": "principal,principal"}, {}, "none twice"),
        ({"consumer_order": "somebody"}, {}, "consumer_order"),
        (
            {},
            {"APIDAE_COLLECTOR_SLACK_URL": "https://h"},
            'removed in 0.2: now an entry of notifiers .*"slack"',
        ),
        ({}, {"APIDAE_COLLECTOR_CONFIG": "/none.toml"}, "/none.toml cannot be read"),
    ],
)
def test_wrong_setting_is_named(flags: dict[str, object], environment: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_settings(flags, environment=environment)


@pytest.mark.parametrize(
    ("flags", "is_grpc_secure", "is_http_secure", "takes_certificates", "takes_tokens"),
    [
        ({}, False, False, False, True),
        ({"no_auth": True}, False, False, False, False),
        ({"tls_cert_file": "/c.pem", "tls_key_file": "/k.pem"}, True, True, False, True),
        ({"grpc_listen": "0.0.0.0:1"}, True, False, True, False),
        ({"http_listen": "0.0.0.0:1"}, False, True, False, True),
        ({"grpc_listen": "0.0.0.0:1", "sensor_auth": "token"}, True, False, False, True),
        ({"grpc_listen": "0.0.0.0:1", "sensor_auth": "any"}, True, False, True, True),
        ({"sensor_auth": "certificate"}, True, False, True, False),
        ({"ca_cert_file": "/c.pem", "ca_key_file": "/k.pem"}, True, False, False, True),
    ],
)
def test_who_gets_in(
    flags: dict[str, object], is_grpc_secure: bool, is_http_secure: bool, takes_certificates: bool, takes_tokens: bool
) -> None:
    settings = load_settings(flags, environment={})
    assert (settings.is_grpc_secure, settings.is_http_secure) == (is_grpc_secure, is_http_secure)
    assert (settings.takes_certificates, settings.takes_tokens) == (takes_certificates, takes_tokens)


def test_off_loopback_with_tls_is_fine() -> None:
    flags = {"http_listen": "0.0.0.0:1", "tls_cert_file": "/c.pem", "tls_key_file": "/k.pem"}
    assert load_settings(flags, environment={}).http_listen == "0.0.0.0:1"


def test_paths_are_put_behind_the_public_address() -> None:
    for given in ("https://apidae.example/", "https://apidae.example"):
        assert load_settings({"public_url": given}, environment={}).public_url == "https://apidae.example"


def test_secret_address_is_in_no_repr() -> None:
    environment = {
        "APIDAE_COLLECTOR_STORE_URL": "http://u:hunter2@h/d",
        "APIDAE_COLLECTOR_NOTIFIERS": '[{"kind": "slack", "url": "https://h/hunter2"}]',
    }
    assert "hunter2" not in repr(load_settings({}, environment=environment))


class TestNotifiers:
    """The list of receivers."""

    def test_secrets_are_text_or_a_file_or_a_variable(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("from-file\n")
        file = tmp_path / "collector.toml"
        file.write_text(
            '[[notifiers]]\nkind = "slack"\nurl = "from-text"\n'
            f'[[notifiers]]\nkind = "pagerduty"\nrouting_key = {{file = "{tmp_path / "key"}"}}\n'
            '[[notifiers]]\nkind = "slack"\nname = "on-call"\nurl = {environment = "ON_CALL"}\n'
        )
        first, second, third = load_settings({}, config_path=file, environment={"ON_CALL": "from-variable"}).notifiers
        assert isinstance(first, SlackNotifier) and first.url.get_secret_value() == "from-text"
        assert isinstance(second, PagerDutyNotifier) and second.routing_key.get_secret_value() == "from-file"
        assert isinstance(third, SlackNotifier) and third.url.get_secret_value() == "from-variable"

    @pytest.mark.parametrize(
        ("entries", "sentence"),
        [
            ('[{"kind": "slak", "url": "hunter2"}]', r"notifiers\[0\] .* no known kind; give one of webhook, syslog"),
            ('[{"kind": "slack"}]', r"notifiers\[0\].url is not set; add it in APIDAE_COLLECTOR_NOTIFIERS"),
            ('[{"kind": "slack", "url": {"file": "/none"}}]', r"notifiers\[0\].url .*the file /none cannot be read"),
            ('[{"kind": "slack", "url": {"environment": "NO"}}]', r"notifiers\[0\].url .*the variable NO is not set"),
            ('[{"kind": "slack", "url": 7}]', r"notifiers\[0\].url \(from .*input should be"),
            ('[{"kind": "slack", "url": "hunter2", "ulr": "hunter2"}]', r"notifiers\[0\].ulr .*is not a setting"),
            ('[{"kind": "slack", "url": "a"}, {"kind": "slack", "url": "b"}]', "names 2 receivers slack; give each a"),
            ('[{"kind": "mail", "url": "hunter2", "sender": "", "recipients": ["x"]}]', "sender is ''"),
            ('[{"kind": "template", "url": "hunter2"}]', r"notifiers\[0\].template_file is not set"),
            ('["hunter2"]', r"notifiers\[0\] .*should be"),
            ("[hunter2", "notifiers .*is not JSON"),
            ("hunter2", "notifiers .*must be a list"),
        ],
    )
    def test_a_mistake_is_one_sentence_without_the_secret(self, entries: str, sentence: str) -> None:
        with pytest.raises(ConfigError, match=sentence) as caught:
            load_settings({}, environment={"APIDAE_COLLECTOR_NOTIFIERS": entries})
        assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)

    def test_what_there_is_once_is_named_once(self) -> None:
        webhooks = '[{"kind": "webhook", "url": "a"}, {"kind": "webhook", "url": "b"}]'
        with pytest.raises(ConfigError, match="has 2 entries of kind webhook; keep one"):
            load_settings({}, environment={"APIDAE_COLLECTOR_INTEGRATIONS": webhooks})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("a.test", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:65535", "collector.test:7443"])
def test_addresses_round_trip(text: str) -> None:
    assert join_address(*split_address(text)) == text


@pytest.mark.parametrize("text", ["", "7443", "host:", ":7443", "host:65536", "host:-1", "host:٣", "http://host:80"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(text)
