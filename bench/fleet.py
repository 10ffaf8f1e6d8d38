"""A company with as many machines as one likes, in seconds: the first is made with the verbs, the others are copied.

For the benchmarks of scale. Each machine has one device, the series of its metrics, and the rules of its type.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import insert, literal_column, select, text
from sqlalchemy.orm import DeclarativeBase, Session

from assets.models import Asset, Binding, Device
from kernel import clock
from rules import library
from rules.library import AlarmTypeDraft
from telemetry import series
from telemetry.models import Series
from tests import plant
from tests.plant import Plant

METRICS: Final = ("temperature", "pressure", "rpm")


def build(
    session: Session, *, devices: int, metrics: Sequence[str] = METRICS, rules: int = 10, width: int = 6
) -> Plant:
    """Write ``devices`` machines with devices ``bench-000000`` and so on, ``rules`` alarm types, and all series."""
    made = plant.build(session, machines=1, metrics=tuple(metrics), prefix="bench-", width=width)
    session.flush()
    asset, device = made.assets[0].id, made.devices[0].id
    _copied(
        session,
        Asset,
        asset,
        devices,
        {"id": f"{asset} + n", "code": "'P-' || n", "path": f"'/' || {asset} + n || '/'"},
    )
    key = f"'bench-' || lpad(n::text, {width}, '0')"
    _copied(session, Device, device, devices, {"id": f"{device} + n", "key": key})
    binding = session.scalars(select(Binding.id)).one()
    ours = {"id": f"{binding} + n", "device_id": f"{device} + n", "asset_id": f"{asset} + n"}
    _copied(session, Binding, binding, devices, ours)
    for metric in metrics:
        (first,) = series.ensure(session, [(device, metric)], now=clock.now()).values()
        # Numbers are given in the order of arrival: all devices' first metric, then all devices' second.
        _copied(session, Series, first, devices, {"id": f"{first} + n", "device_id": f"{device} + n"})
        _count_on(session, Series)
    for model in (Asset, Device, Binding):
        _count_on(session, model)
    _add_rules(session, made, metrics, rules)
    session.flush()
    session.execute(text("ANALYZE"))
    return made


def _copied(session: Session, model: type[DeclarativeBase], row: int, times: int, changed: Mapping[str, str]) -> None:
    table = model.__table__
    names = [column.name for column in table.columns]
    columns = [literal_column(changed[name]) if name in changed else table.c[name] for name in names]
    numbers = text(f"generate_series(1, {times - 1}) n")
    query = select(*columns).select_from(table, numbers).where(table.c.id == row)
    session.execute(insert(model).from_select(names, query))


def _count_on(session: Session, model: type[DeclarativeBase]) -> None:
    """Let the next number follow the largest."""
    name = model.__tablename__
    session.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))"))  # noqa: S608


def _add_rules(session: Session, made: Plant, metrics: Sequence[str], rules: int) -> None:
    for number in range(rules):
        metric = metrics[number % len(metrics)]
        definition = {
            "schema": 1,
            "create": {
                severity: {
                    "condition": {
                        "type": "compare", "metric": metric, "operator": ">=", "limit": limit, "deadband": 2.0
                    }
                }
                for severity, limit in (("critical", 9_000.0 + number), ("warning", 8_000.0 + number))
            },
            "clear": {"type": "automatic"},
        }  # fmt: skip
        draft = AlarmTypeDraft(f"bench-{number}", f"Rule {number}", asset_type_id=made.type.id)
        library.add(session, draft, definition, unit=made.company, actor="system", now=clock.now())
