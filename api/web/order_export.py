"""The download of a list of orders: one line an order, for a spreadsheet that must not take a cell for a formula."""

import csv
import io
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api import paging
from api.access import Db, needs
from api.v1 import orders as v1
from kernel import clock, i18n
from maintenance.orders import desk, lifecycle, worklist
from maintenance.orders.models import Order
from people.scope import Viewer

router = APIRouter(prefix="/orders")
Reader = Annotated[Viewer, needs("orders.read")]

MOST_EXPORTED = 10_000
EXPORTED = (
    i18n.noop("Order"),
    i18n.noop("Title"),
    i18n.noop("Asset code"),
    i18n.noop("Asset"),
    i18n.noop("Where"),
    i18n.noop("Phase"),
    i18n.noop("Priority"),
    i18n.noop("From"),
    i18n.noop("Who"),
    i18n.noop("Opened"),
    i18n.noop("Due"),
    i18n.noop("Started at"),
    i18n.noop("Finished at"),
    i18n.noop("Closed at"),
    i18n.noop("Minutes worked"),
    i18n.noop("Finding"),
    i18n.noop("What was done?"),
    i18n.noop("Rework"),
)


@router.get("/export.csv")
def export(request: Request, db: Db, viewer: Reader, wanted: Annotated[v1.Filter, Query()]) -> Response:
    """Download a filter's orders as a table for a spreadsheet, at most 10,000 rows, times in the viewer's zone."""
    after = paging.read(wanted.cursor, worklist.SORTS[wanted.sort])
    rows = worklist.listed(
        db, viewer, wanted.asked(viewer), now=clock.now(), sort=wanted.sort, after=after, limit=MOST_EXPORTED
    )
    words, lang = i18n.catalogue(request.state.language), request.state.language
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow([words.get(label, label) for label in EXPORTED])
    for row in rows:
        table.writerow([_harmless(cell) for cell in _cells(row, viewer, lang)])
    # The mark at the beginning tells spreadsheets that the Chinese in it is UTF-8.
    return Response(
        "\ufeff" + out.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="orders.csv"'},
    )


def _cells(row: Order, viewer: Viewer, lang: str) -> list[str]:
    zone = ZoneInfo(viewer.zone)
    moments = (row.created_at, row.due_at, row.started_at, row.finished_at, row.closed_at)
    worked = lifecycle.worked(desk.times_of(row), clock.now())
    return [
        row.number,
        (row.title_zh or row.title) if lang == "zh" else row.title,
        row.asset.code if row.asset else "",
        row.asset.called(lang) if row.asset else "",
        row.site.called(lang) if row.site else "",
        row.phase,
        str(row.priority),
        row.origin,
        row.assignee.name if row.assignee else "",
        *(f"{moment.astimezone(zone):%Y-%m-%d %H:%M}" if moment else "" for moment in moments),
        f"{worked.total_seconds() / 60:.0f}" if worked is not None else "",
        row.finding or "",
        row.resolution or "",
        str(row.rework),
    ]


def _harmless(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
