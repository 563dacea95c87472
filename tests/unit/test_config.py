"""Settings come from four places, in order, and are judged alike."""

import os
from pathlib import Path

import pytest

from pandawn_server.config import ConfigError, Settings, load_settings, masked


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own settings are not this test's."""
    for name in list(os.environ):
        if name.startswith(("PANDAWN_", "OTEL_")):
            monkeypatch.delenv(name)


def test_without_any_source_the_server_is_embedded_and_on_loopback() -> None:
    settings = load_settings({}).settings
    assert settings.database_url.startswith("sqlite:////")
    assert settings.catalog == "memory:"
    assert settings.listen == ("127.0.0.1:25443",)


def test_a_flag_beats_the_environment_and_that_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f.toml"
    file.write_text("grace_seconds = 1\ndatabase_pool_size = 3\nevent_retention_days = 9\n")
    monkeypatch.setenv("PANDAWN_GRACE_SECONDS", "2")
    monkeypatch.setenv("PANDAWN_DATABASE_POOL_SIZE", "4")
    loaded = load_settings({"grace_seconds": "3"}, file)
    settings = loaded.settings
    assert (settings.grace_seconds, settings.database_pool_size) == (3.0, 4)
    assert settings.event_retention_days == 9
    assert loaded.origins["grace_seconds"] == "flag"
    assert loaded.origins["database_pool_size"] == "environment"
    assert loaded.origins["event_retention_days"] == "file"
    assert loaded.origins["log_level"] == "default"


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANDAWN_CATALOG", "")
    assert load_settings({}).origins["catalog"] == "default"


@pytest.mark.parametrize("url", ["postgres://u@h/d", "postgresql://u@h/d"])
def test_a_postgresql_url_gets_the_driver_that_is_installed(url: str) -> None:
    settings = load_settings({"database": url}).settings
    assert settings.database_url == "postgresql+psycopg://u@h/d"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database", "mysql://h/d"),
        ("database", "pandawn.db"),
        ("catalog", "redis://h"),
        ("catalog", "memcached://"),
        ("catalog", "memcached://a:1,,b:2"),
        ("listen", "25443"),
        ("listen", "127.0.0.1:99999"),
        ("listen", ""),
        ("grace_seconds", "-1"),
        ("grace_seconds", "nan"),
        ("database_pool_size", "1"),
        ("database_pool_size", "many"),
        ("reaper_interval_seconds", "0"),
        ("log_level", "loud"),
        ("otlp_endpoint", "collector:4317"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}: "):
        load_settings({name: value})


@pytest.mark.parametrize("value", ["h", "h:1", "h1:11211,h2", "10.0.0.1:1,10.0.0.2:2"])
def test_a_catalog_may_be_any_number_of_memcached_servers(value: str) -> None:
    assert load_settings({"catalog": f"memcached://{value}"}).settings.catalog.endswith(value)


def test_the_standard_variable_of_opentelemetry_gives_way_to_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://theirs:4317")
    assert load_settings({}).settings.otlp_endpoint == "http://theirs:4317"
    monkeypatch.setenv("PANDAWN_OTLP_ENDPOINT", "http://ours:4317")
    assert load_settings({}).settings.otlp_endpoint == "http://ours:4317"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@h/d",
        "postgresql://u:se:cret@h/d",
        "postgresql://u:secret@h:5432/d?connect_timeout=3",
        "postgresql://h/d?user=u&password=secret&x=1",
        "postgresql://h/d?sslpassword=secret",
        "postgresql://u:sec%2Fret@h/d",
        "http://u:secret@h:4317",
    ],
)
def test_no_password_is_ever_shown(url: str) -> None:
    shown = masked(url)
    assert "sec" not in shown.replace("***", "")
    assert "cret" not in shown
    assert "***" in shown


def test_a_url_without_a_password_is_shown_as_it_is() -> None:
    for url in ("sqlite:////data/a@b:c.db", "postgresql://u@h:1/d", "memcached://a:1,b:2"):
        assert masked(url) == url


def test_settings_cannot_be_changed() -> None:
    settings = load_settings({}).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.catalog = "x"


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())
