"""What one process is made of, put together once by the command line and handed to the edges."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from kernel.settings import Settings
from telemetry.store import TelemetryStore

if TYPE_CHECKING:
    from ingest.run import Ingest


@dataclass(slots=True)
class Runtime:
    """The open parts of a process.

    ``demo_accounts`` are offered on the sign-in page, as (role key, name, user name, password); only a demo has any.
    ``checks`` are the readiness questions of parts that only some processes run: each answers what is wrong, or None.
    ``ingest`` is the data path, in a process that runs it.
    """

    settings: Settings
    engine: Engine
    sessions: sessionmaker[Session]
    store: TelemetryStore
    secret: bytes
    is_demo: bool = False
    demo_accounts: list[tuple[str, str, str, str]] = field(default_factory=list)
    checks: dict[str, Callable[[], str | None]] = field(default_factory=dict)
    ingest: "Ingest | None" = None

    @property
    def files(self) -> Path:
        """The folder of uploaded files."""
        return self.settings.data_dir / "files"
