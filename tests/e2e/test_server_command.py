"""`pandawn-server` says clearly what it was told, what is wrong with it, and what it cannot reach."""

import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.memcached import MemcachedFactory, MemcachedServer, pool_url
from tests.fixtures.ports import LOOPBACK, free_port
from tests.fixtures.processes import StartError
from tests.fixtures.server import PROGRAM, StartServer, run_server_command

USAGE, REFUSED, UNREACHABLE = 2, 3, 4


def test_settings_are_shown_with_where_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "pandawn.toml"
    file.write_text('grace_seconds = 7\nlog_level = "debug"\nlisten = ["127.0.0.1:1"]\n')
    done = run_server_command(
        "check-config",
        f"--data-dir={tmp_path}",
        "--log-level=warning",
        PANDAWN_CONFIG=str(file),
        PANDAWN_LISTEN="127.0.0.1:2,127.0.0.1:3",
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["configuration", "file:", str(file)] in lines
    assert ["grace_seconds", "7.0", "file"] in lines
    assert ["listen", "127.0.0.1:2,127.0.0.1:3", "environment"] in lines
    assert ["log_level", "warning", "flag"] in lines
    assert ["catalog", "memory:", "default"] in lines
    assert ["database", f"sqlite:///{tmp_path}/pandawn.db", "default"] in lines
    assert ["database:", "ok"] in lines
    assert ["catalog:", "ok"] in lines


def test_what_an_operator_asks_makes_no_database(tmp_path: Path) -> None:
    place = f"--data-dir={tmp_path}/slip"
    done = run_server_command("check-config", place)
    assert done.returncode == 0, done.stdout
    assert f"there is no {tmp_path}/slip/pandawn.db yet" in done.stdout
    for command in ("end-sessions", "rotate-session-key", "retention"):
        refused = run_server_command(command, place)
        assert refused.returncode == REFUSED
        assert f"there is no {tmp_path}/slip/pandawn.db yet" in refused.stderr
    assert not (tmp_path / "slip").exists()


def test_whoever_reads_the_beginning_only_is_no_trouble(tmp_path: Path) -> None:
    # Nobody reads from the start: the first line that is flushed finds that out.
    script = f"set -o pipefail; {PROGRAM} check-config --data-dir={tmp_path} | exec true"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 141
    assert done.stderr == ""


def test_an_address_that_is_taken_or_not_ours_is_said_in_words(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        done = run_server_command("serve", f"--data-dir={tmp_path}", f"--listen={LOOPBACK}:{port}")
    assert done.returncode == 1
    said = f"cannot listen on {LOOPBACK}:{port}: address already in use; does another server run"
    assert said in done.stderr
    assert "GRPC" not in done.stderr


def test_a_number_is_not_called_by_what_it_is_counted_for() -> None:
    said = run_server_command("serve", "--help").stdout
    assert "--max-connections-per-address N" in said
    assert "--grace-seconds SECONDS" in said


def test_everything_wrong_with_the_settings_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "pandawn.toml"
    file.write_text('grace_second = 7\nlisten = "here"\n')
    done = run_server_command(
        "serve",
        f"--config={file}",
        "--database=mysql://root:secret@db/x",
        PANDAWN_LOG_LEVEL="loud",
    )
    assert done.returncode == USAGE
    assert "secret" not in done.stderr
    said = "".join(done.stderr.splitlines(keepends=True))
    assert f"grace_second in {file}: there is no such setting" in said
    assert f"listen in {file}: 'here' is not HOST:PORT" in said
    assert "--database: 'mysql://root:***@db/x' is not sqlite:///PATH or postgresql" in said
    assert "PANDAWN_LOG_LEVEL: Input should be 'debug'" in said


def test_a_configuration_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    missing = run_server_command("serve", f"--config={tmp_path}/none.toml")
    assert missing.returncode == USAGE
    assert f"{tmp_path}/none.toml: No such file" in missing.stderr
    (tmp_path / "bad.toml").write_text("listen = ")
    broken = run_server_command("serve", f"--config={tmp_path}/bad.toml")
    assert broken.returncode == USAGE
    assert "bad.toml is not TOML" in broken.stderr


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    port = free_port()
    url = f"postgresql://alice:secret@127.0.0.1:{port}/pandawn"
    done = run_server_command(
        "serve", f"--database={url}", "--listen=127.0.0.1:0", "--start-wait-seconds=0.5"
    )
    assert done.returncode == UNREACHABLE
    assert "DATABASE_UNAVAILABLE" in done.stderr
    assert f"127.0.0.1:{port}/pandawn" in done.stderr
    assert "waiting for the database" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_catalog_that_does_not_answer_is_named(tmp_path: Path) -> None:
    port = free_port()
    done = run_server_command(
        "check-config", f"--data-dir={tmp_path}", f"--catalog=memcached://127.0.0.1:{port}"
    )
    assert done.returncode == UNREACHABLE
    assert "CATALOG_UNAVAILABLE" in done.stdout
    assert f"127.0.0.1:{port}" in done.stdout


def test_a_server_starts_without_its_catalog_and_says_so(start_server: StartServer) -> None:
    """What the catalog tells is a hint: jobs run without it."""
    port = free_port()
    server = start_server(catalog=f"memcached://127.0.0.1:{port}")
    warnings = [event for event in server.log_events() if event["level"] == "warning"]
    assert any(str(port) in str(event) for event in warnings)


def test_one_catalog_server_of_several_may_be_away(
    start_server: StartServer, memcached_factory: MemcachedFactory
) -> None:
    pool = memcached_factory.start_pool(2)
    pool[0].kill()
    server = start_server(catalog=pool_url(pool))
    warnings = [event for event in server.log_events() if event["level"] == "warning"]
    assert any(pool[0].address in str(event) for event in warnings)


def test_check_config_tries_both_backends_and_goes_on_after_a_failure(
    memcached: MemcachedServer,
) -> None:
    port = free_port()
    done = run_server_command(
        "check-config",
        f"--database=postgresql://u@127.0.0.1:{port}/x",
        f"--catalog={memcached.url}",
    )
    assert done.returncode == UNREACHABLE
    assert "database: DATABASE_UNAVAILABLE" in done.stdout
    assert "catalog: ok" in done.stdout


def test_an_unmigrated_database_is_refused_until_it_is_migrated(
    start_installed_server: StartServer, postgres_url: str
) -> None:
    with pytest.raises(StartError, match=r"run `pandawn-server migrate`.*SCHEMA_OUTDATED"):
        start_installed_server(database=postgres_url)
    refused = run_server_command("serve", f"--database={postgres_url}", "--listen=127.0.0.1:0")
    assert refused.returncode == REFUSED
    migrated = run_server_command("migrate", f"--database={postgres_url}")
    assert migrated.returncode == 0, migrated.stderr
    assert "up to date" in migrated.stdout
    assert start_installed_server(database=postgres_url).health() == "SERVING"


def test_migrating_twice_is_harmless(tmp_path: Path) -> None:
    for _ in range(2):
        done = run_server_command("migrate", f"--data-dir={tmp_path}")
        assert done.returncode == 0, done.stderr


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_server_command("serve", f"--data-dir={tmp_path}/file/x", "--listen=127.0.0.1:0")
    assert done.returncode == USAGE
    assert f"{tmp_path}/file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_on_port_0_prints_the_port_it_got(tmp_path: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "serve", f"--data-dir={tmp_path}", "--listen=127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        assert process.wait() == 0
    found = re.fullmatch(r"pandawn-server listening on 127\.0\.0\.1:(\d+)\n", line)
    assert found
    assert int(found[1]) > 0


@pytest.mark.parametrize("command", ["serve", "migrate", "check-config"])
def test_every_setting_is_a_flag_of_every_command(command: str) -> None:
    done = run_server_command(command, "--help")
    assert done.returncode == 0
    for flag in ("--database", "--catalog", "--listen", "--grace-seconds", "--otlp-endpoint"):
        assert flag in done.stdout


def test_what_is_old_is_counted_before_it_is_deleted(tmp_path: Path) -> None:
    run_server_command("migrate", f"--data-dir={tmp_path}")
    counted = run_server_command("retention", "--dry-run", f"--data-dir={tmp_path}")
    assert counted.returncode == 0, counted.stderr
    assert "0 tasks would be deleted" in counted.stdout
    deleted = run_server_command(
        "retention", f"--data-dir={tmp_path}", "--task-retention-days=30", "--log-level=error"
    )
    assert deleted.returncode == 0, deleted.stderr
    assert "0 jobs of tasks were deleted" in deleted.stdout
