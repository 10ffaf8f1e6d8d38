"""Every setting of the product, in one place. ``fixwright settings`` prints this table and the docs repeat it.

Read from ``FIXWRIGHT_*`` environment variables, else from the TOML file that ``FIXWRIGHT_SETTINGS`` names.
"""

import os
import secrets
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from kernel.errors import Misconfigured


def _bind(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the highest TCP port
        raise ValueError("must read host:port, for example 127.0.0.1:8000")
    return value


Bind = Annotated[str, AfterValidator(_bind)]
BindOrNone = Annotated[Bind | None, BeforeValidator(lambda value: value or None)]


class Settings(BaseSettings):
    """What an installation may decide. Defaults run everything embedded on one machine."""

    model_config = SettingsConfigDict(env_prefix="FIXWRIGHT_", extra="forbid", frozen=True)

    data_dir: Path = Field(Path("var"), description="Where the embedded stores, files and secrets live.")
    database_url: str | None = Field(
        None,
        description="PostgreSQL 15 or newer, postgresql+psycopg://…; empty starts the embedded server.",
    )
    database_pool: int = Field(
        12, ge=2, le=200, description="Connections a process may hold; also the number of requests served at once."
    )
    telemetry_url: str | None = Field(
        None,
        description="influx://token@host:port/org/bucket or victoria://host:port; empty uses the embedded DuckDB file.",
    )
    store_memory_mb: int = Field(
        256,
        ge=96,
        le=1_000_000,
        description="Memory the embedded telemetry store may take for its tables, in MB; the rest goes to disk.",
    )
    mqtt_url: str | None = Field(
        None,
        description="External broker, mqtt://user:password@host:port or mqtts://…; empty starts the embedded broker.",
    )
    mqtt_bind: Bind = Field("127.0.0.1:1883", description="Address of the embedded broker.")
    mqtt_tls_bind: Bind | None = Field(
        None, description="Address of the embedded broker's TLS listener, for example 0.0.0.0:8883; none when empty."
    )
    mqtt_tls_cert: Path | None = Field(None, description="Its certificate with those between it and the root, in PEM.")
    mqtt_tls_key: Path | None = Field(None, description="The private key of its certificate, in PEM.")
    mqtt_tls_client_ca: Path | None = Field(
        None, description="Authorities, in PEM, whose client certificates let devices in; none when empty."
    )
    broker_secret: SecretStr | None = Field(
        None, description="What EMQX must show to ask who may connect; its two addresses are closed when empty."
    )
    emqx_api_url: SecretStr | None = Field(
        None, description="EMQX's management API, http://key:secret@host:18083, to end connections of revoked devices."
    )
    mqtt_receive_maximum: int = Field(
        20000, ge=100, le=65535, description="Unacknowledged messages the broker may have in flight to us."
    )
    sparkplug_host_id: str = Field(
        "fixwright",
        pattern="^[^+#/\\x00-\\x1f]{0,60}$",
        description="Name under which Sparkplug edge nodes find this host, spBv1.0/STATE/…; empty: it does not say.",
    )
    ingest_group: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,40}$",
        description="Share the broker's messages with other ingest workers of this name ($share); see docs/scaling.md.",
    )
    ingest_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]{1,80}$",
        description="What this worker is called at the broker within its group; empty takes the machine's name.",
    )
    batch_messages: int = Field(10000, ge=1, le=60000, description="Messages gathered into one batch at most.")
    batch_wait_ms: int = Field(
        20, ge=0, le=1000, description="How long a batch waits for more messages, in milliseconds."
    )
    limit_device_messages: float = Field(
        100, ge=0, description="Messages a second a device may send on average; 0 for no limit."
    )
    limit_device_points: float = Field(
        5000, ge=0, description="Readings a second a device may send on average; 0 for no limit."
    )
    limit_company_messages: float = Field(
        0, ge=0, description="Messages a second all devices of a company may send together; 0 for no limit."
    )
    limit_company_points: float = Field(
        0, ge=0, description="Readings a second all devices of a company may send together; 0 for no limit."
    )
    limit_burst_s: float = Field(
        3600, gt=0, description="How many seconds' worth of these may come at once, as after an outage."
    )
    lag_alarm_s: float = Field(
        60, gt=0, description="Ingest is not well when messages wait longer than this to be stored, in seconds."
    )
    late_limit_h: float = Field(
        24, ge=0, le=8760, description="Readings later than this behind the newest are stored and judged by no rule."
    )
    http_bind: Bind = Field("127.0.0.1:8000", description="Address of the web server.")
    intake_bind: BindOrNone = Field(
        None,
        description="Where `fixwright ingest` takes readings over HTTP by itself; empty: not at all. `up` serves them "
        "beside the pages.",
    )
    base_url: str | None = Field(
        None, description="What stands before every link and QR code; empty means http:// and FIXWRIGHT_HTTP_BIND."
    )
    secret_key: SecretStr | None = Field(
        None, description="Seals the audit chain and signs cookies; empty keeps a generated one in the data directory."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Addresses whose X-Forwarded-For is believed, as a JSON list; nobody by default."
    )
    outgoing_allow: tuple[str, ...] = Field(
        (), description="Networks that webhooks of alarms may reach although they are not public, as a JSON list."
    )
    session_hours: int = Field(12, ge=1, le=720, description="How long a sign-in lasts without use, in hours.")
    upload_max_mb: int = Field(12, ge=1, le=500, description="Largest accepted photo or document, in MB.")
    history_max_mb: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="Largest accepted file of history, in MB: over the API, and unpacked where it is gzipped.",
    )
    retention_days: int = Field(730, ge=1, description="How long exact readings are kept, in days.")
    retention_minute_days: int = Field(
        1825, ge=0, description="How long minutes made of them are kept, in days; 0 makes none. Embedded store only."
    )
    retention_hour_days: int = Field(
        7300, ge=1, description="How long hours made of them are kept, in days. Embedded store only."
    )
    log_format: str = Field("text", pattern="^(text|json)$", description="text for people, json for machines.")
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="The least severe log line shown."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not offered
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not offered
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let arguments win over the environment, and the environment over the TOML file."""
        toml = TomlConfigSettingsSource(settings_cls, os.environ.get("FIXWRIGHT_SETTINGS"))
        return init_settings, env_settings, toml

    @property
    def public_url(self) -> str:
        """The address people reach the pages at, without a trailing slash."""
        return (self.base_url or f"http://{self.http_bind}").rstrip("/")

    @property
    def is_secure(self) -> bool:
        """Whether cookies may insist on TLS."""
        return self.public_url.startswith("https://")


def load(**overrides: Any) -> Settings:  # noqa: ANN401 - any field of Settings
    """Return the settings of this process.

    Raises:
        Misconfigured: a value is not acceptable, or the file cannot be read; the sentence names the variable or file
            and the reason.
    """
    file = os.environ.get("FIXWRIGHT_SETTINGS")
    if file and not Path(file).is_file():
        raise Misconfigured("FIXWRIGHT_SETTINGS: there is no file {path}.", path=file)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = "FIXWRIGHT_" + "_".join(str(part) for part in first["loc"]).upper()
        raise Misconfigured("{name}: {reason}", name=name, reason=first["msg"]) from error
    except SettingsError as error:
        _, name, *_ = [*str(error).split('"'), "", ""]
        raise Misconfigured("{name}: must be a JSON list.", name=f"FIXWRIGHT_{name.upper()}") from error
    except (tomllib.TOMLDecodeError, OSError, UnicodeError) as error:
        raise Misconfigured("FIXWRIGHT_SETTINGS: {path}: {reason}", path=file, reason=error) from error


def host_and_port(bind: str) -> tuple[str, int]:
    """Split ``host:port``."""
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


def secret_key(settings: Settings) -> bytes:
    """Return the installation's secret, made once and kept with owner-only rights when none is set."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    path = settings.data_dir / "secret.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and linked into place, so that two processes starting at once agree on one secret.
        draft = path.with_name(f".secret.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip().encode()
