"""The database: one engine a process, sessions, the declarative base and the column types all tables share.

Sessions are committed at the edge only (a request, a batch, a delivery, a tick), never inside a verb.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Engine,
    Identity,
    MetaData,
    Numeric,
    String,
    Table,
    bindparam,
    create_engine,
    func,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, REGCLASS
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, Session, attributes, mapped_column, sessionmaker

from kernel.errors import Misconfigured

Json = dict[str, Any]

Id = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
"""A row's identity: an integer inside, never shown on a public page."""
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
"""An instant in UTC."""
Name = Annotated[str, mapped_column(String(200))]
Quantity = Annotated[Decimal, mapped_column(Numeric(18, 6))]
"""A quantity in the part's own unit, exact to a millionth."""
Money = Annotated[Decimal, mapped_column(Numeric(18, 4))]
"""An amount in the company's currency."""


class Row(DeclarativeBase):
    """The base of every table."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as written
        datetime: DateTime(timezone=True),
        Json: JSONB,
        list[Any]: JSONB,
    }


class Named:
    """A thing with a name in the company's language and, where they differ, one in Chinese."""

    name: Mapped[Name]
    name_zh: Mapped[str | None] = mapped_column(String(200))

    def called(self, language: str) -> str:
        """Return the name to show a reader of ``language`` (``en`` or ``zh``)."""
        return (self.name_zh or self.name) if language == "zh" else self.name


def connect(url: str, *, pool: int = 12) -> Engine:
    """Return an engine whose every connection speaks UTC and commits durably.

    Raises:
        Misconfigured: the URL is not one of PostgreSQL through psycopg.
    """
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    if not url.startswith("postgresql+psycopg://"):
        raise Misconfigured("FIXWRIGHT_DATABASE_URL must start with postgresql+psycopg://")
    return create_engine(
        url,
        pool_size=pool,
        max_overflow=4,
        pool_timeout=10,
        pool_pre_ping=True,
        # Errors are logged and kept with deliveries: they must not carry the names and numbers that were being stored.
        hide_parameters=True,
        connect_args={"options": "-c timezone=UTC -c synchronous_commit=on", "connect_timeout": 5},
    )


def sessions(
    engine: Engine, *, secret: bytes, witness: Path | None = None, outgoing: Sequence[str] = ()
) -> sessionmaker[Session]:
    """Return the factory of sessions; ``secret`` seals the audit entries that their transactions write.

    ``witness`` is a file outside of the database in which ``audit.witness`` keeps how far the trail has come;
    ``outgoing`` are the networks that ``kernel.outgoing`` may reach although they are not public.
    """
    info = {"secret": secret, "witness": witness, "outgoing": tuple(outgoing)}
    return sessionmaker(engine, expire_on_commit=False, info=info)


@contextmanager
def transaction(factory: sessionmaker[Session]) -> Iterator[Session]:
    """Open a session, commit it when the block ends well, roll it back when it does not."""
    with factory() as session, session.begin():
        yield session


def draw_ids(session: Session, table: type[Row], amount: int) -> Sequence[int]:
    """Return identities for new rows of a table, ascending.

    Rows that have theirs are written by one short statement, told once and run for each. For those that have none the
    database is asked in one statement as long as all of them together, which costs more to read than to run.
    """
    sequence = func.pg_get_serial_sequence(table.__tablename__, "id").cast(REGCLASS)
    drawn = select(func.nextval(sequence)).select_from(func.generate_series(1, amount))
    # Past the session, which would write what has changed so far, row by row, before it asks for anything.
    return session.connection().scalars(drawn).all()


def add_many(session: Session, rows: Sequence[Any]) -> None:
    """Add new rows of one table, with their identities where they are more than one."""
    if len(rows) > 1:
        for row, identity in zip(rows, draw_ids(session, type(rows[0]), len(rows)), strict=True):
            row.id = identity
    session.add_all(rows)


def write_together(session: Session, rows: Iterable[Row]) -> None:
    """Write what changed in the columns of rows that the caller has locked, in one round for all that changed alike.

    The mapper writes rows with a version one by one, so that it sees where somebody was faster. Of these nobody was,
    and each is simply one version further.
    """
    alike: dict[tuple[Mapper[Any], tuple[str, ...]], list[Row]] = {}
    for row in {id(row): row for row in rows}.values():
        state = inspect(row, raiseerr=True)
        changed = tuple(sorted(set(state.mapper.column_attrs.keys()) - state.unmodified))
        if changed:
            alike.setdefault((state.mapper, changed), []).append(row)
    for (mapper, changed), those in alike.items():
        _write_alike(session, mapper, changed, those)


def _write_alike(session: Session, mapper: Mapper[Any], changed: Sequence[str], rows: Sequence[Row]) -> None:
    columns = {name: mapper.column_attrs[name].columns[0] for name in changed}
    new: dict[str, ColumnElement[Any]] = {column.name: bindparam(f"new_{name}") for name, column in columns.items()}
    version = mapper.version_id_col
    if version is not None:
        new[version.name] = version + 1
    [identity] = mapper.primary_key
    statement = update(cast("Table", mapper.local_table)).where(identity == bindparam("of_row")).values(new)
    # Straight over the connection: as an update of the session it would go by way of the mapper again.
    session.connection().execute(
        statement,
        [
            {"of_row": mapper.primary_key_from_instance(row)[0]}
            | {f"new_{name}": getattr(row, name) for name in changed}
            for row in rows
        ],
    )
    for row in rows:
        for name in changed:
            attributes.set_committed_value(row, name, getattr(row, name))
        if version is not None:
            counted = mapper.get_property_by_column(version).key
            attributes.set_committed_value(row, counted, getattr(row, counted) + 1)


def require_durable(engine: Engine) -> None:
    """Refuse a server that would acknowledge what it may lose (promises P1 and P2).

    Raises:
        Misconfigured: ``fsync`` or ``full_page_writes`` is off at the server.
    """
    with engine.connect() as connection:
        for name in ("fsync", "full_page_writes"):
            if connection.execute(text(f"SHOW {name}")).scalar_one() != "on":
                raise Misconfigured(
                    "PostgreSQL runs with {name} = off, so a power cut could lose acknowledged alarms. Switch it on.",
                    name=name,
                )
