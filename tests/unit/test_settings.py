import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from incident_rollback.errors import SettingsError
from incident_rollback.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("INCIDENT_ROLLBACK_"):
            monkeypatch.delenv(name)


def put(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"INCIDENT_ROLLBACK_{name}", value)


def test_defaults() -> None:
    settings = read_settings()
    assert settings.model_dump(mode="json") == {
        "namespace": "incident-rollback",
        "firehydrant_url": "https://api.firehydrant.io/v1",
        "firehydrant_api_key_file": None,
        "hmac_secrets_dir": None,
        "bridge_host": "0.0.0.0",  # noqa: S104  # a pod's only address
        "bridge_port": 8080,
        "ops_host": "0.0.0.0",  # noqa: S104  # a pod's only address
        "ops_port": 8081,
        "leader_elect": True,
        "log_format": "json",
        "log_level": "info",
    }


def test_every_setting_is_read_from_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    put(
        monkeypatch,
        NAMESPACE="ops",
        FIREHYDRANT_URL="https://api.eu.firehydrant.io/v1",
        FIREHYDRANT_API_KEY_FILE=str(key),
        HMAC_SECRETS_DIR=str(tmp_path),
        BRIDGE_HOST="127.0.0.1",
        BRIDGE_PORT="1",
        OPS_HOST="127.0.0.1",
        OPS_PORT="65535",
        LEADER_ELECT="false",
        LOG_FORMAT="text",
        LOG_LEVEL="debug",
    )
    settings = read_settings()
    assert (settings.namespace, settings.firehydrant_api_key_file) == ("ops", key)
    assert str(settings.firehydrant_url) == "https://api.eu.firehydrant.io/v1"
    assert settings.hmac_secrets_dir == tmp_path
    assert (settings.bridge_host, settings.bridge_port) == ("127.0.0.1", 1)
    assert (settings.ops_host, settings.ops_port) == ("127.0.0.1", 65_535)
    assert settings.leader_elect is False
    assert (settings.log_format, settings.log_level) == ("text", "debug")


WRONG = [
    pytest.param("BRIDGE_PORT", "0", id="no port"),
    pytest.param("OPS_PORT", "65536", id="no port, too high"),
    pytest.param("BRIDGE_PORT", "eighty", id="no number"),
    pytest.param("FIREHYDRANT_URL", "ftp://x", id="no http"),
    pytest.param("FIREHYDRANT_API_KEY_FILE", "/not/there", id="a key file that is missing"),
    pytest.param("LEADER_ELECT", "maybe", id="neither true nor false"),
    pytest.param("LOG_FORMAT", "xml", id="no such format"),
    pytest.param("LOG_LEVEL", "loud", id="no such level"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_one_line_that_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, **{name: value})
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value).startswith(f"INCIDENT_ROLLBACK_{name}: ")
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, BRIDGE_PORT="0", LOG_LEVEL="loud")
    with pytest.raises(SettingsError, match=r"BRIDGE_PORT: .*; INCIDENT_ROLLBACK_LOG_LEVEL: "):
        read_settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().bridge_port = 1  # type: ignore[misc]  # that is what is tested


def test_an_empty_variable_is_none_and_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, HMAC_SECRETS_DIR="", FIREHYDRANT_API_KEY_FILE="")
    settings = read_settings()
    assert (settings.hmac_secrets_dir, settings.firehydrant_api_key_file) == (None, None)
