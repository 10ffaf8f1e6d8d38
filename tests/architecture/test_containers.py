"""The container files are read as their engines read them, as far as that goes without an engine."""

import re
from pathlib import Path
from typing import Any

import typer
import yaml

from api import cli
from ingest import mosquitto
from kernel.settings import Settings

PROJECT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
DOCKERFILE = (PROJECT / "Dockerfile").read_text()
OURS = {"migrate", "broker-files", "web", "ingest", "worker"}


def _commands() -> set[str]:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    return set(group.commands)


def test_each_part_runs_a_command_that_exists() -> None:
    for name in OURS:
        assert COMPOSE["services"][name]["command"][0] in _commands(), name


def test_each_part_is_given_settings_that_exist() -> None:
    known = {f"FIXWRIGHT_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        given = {key for key in COMPOSE["services"][name]["environment"] if key.startswith("FIXWRIGHT_")}
        assert given <= known, given - known
    in_image = set(re.findall(r"FIXWRIGHT_[A-Z_]+", DOCKERFILE))
    assert in_image <= known


def test_the_secrets_in_the_compose_file_have_no_defaults() -> None:
    text = (PROJECT / "docker-compose.yml").read_text()
    for secret in ("POSTGRES_PASSWORD", "MQTT_PASSWORD", "FIXWRIGHT_SECRET_KEY"):
        assert f"${{{secret}:?" in text, f"{secret} must be set by whoever runs it"


def test_every_server_says_whether_it_is_well_and_restarts() -> None:
    for name, service in COMPOSE["services"].items():
        if name not in OURS or name == "web":
            assert "test" in service["healthcheck"], name
        assert service.get("restart"), name


def test_who_depends_on_whom_exists_and_waits_for_health() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, (name, other)
            if how["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"], other


def test_influxdb_starts_only_when_asked_for() -> None:
    assert COMPOSE["services"]["influxdb"]["profiles"] == ["influx"]


def test_every_volume_is_declared() -> None:
    named = {
        volume.split(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert named == set(COMPOSE["volumes"])


def test_the_image_runs_as_nobody_special_and_installs_by_hash() -> None:
    last_stage = DOCKERFILE.rsplit("FROM ", 1)[1]
    assert re.search(r"^USER fixwright$", last_stage, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE
    assert "HEALTHCHECK" in last_stage
    assert DOCKERFILE.count("FROM ") == 3, "browser libraries, build, and the image itself"


def test_mosquitto_is_configured_as_our_own_tests_run_it() -> None:
    assert (PROJECT / "deploy/mosquitto.conf").read_text().endswith(mosquitto.SETTINGS)


def test_the_example_environment_names_every_secret() -> None:
    example = (PROJECT / "deploy/example.env").read_text()
    for secret in ("POSTGRES_PASSWORD", "MQTT_PASSWORD", "FIXWRIGHT_SECRET_KEY", "FIXWRIGHT_BASE_URL"):
        assert re.search(rf"^{secret}=", example, re.MULTILINE), secret
