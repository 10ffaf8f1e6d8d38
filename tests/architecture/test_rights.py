"""Who may do what, asked of every route in every role, on their own records and on others' (SE-1, D14).

The routes are found by walking the product. One with a new name in its address fails here until ``RECORDS`` says
how to make what it stands for. Each is then asked:

- by nobody: 401, or the way to the sign-in;
- by each role without the right it declares: 403;
- by each role with the right, over a record within its sight: anything but 403, 404 and 5xx;
- by the same role elsewhere in the company, and by the administrator of another company: 404.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api import access
from api.app import create
from api.runtime import Runtime
from assets import applications, enrolment
from assets.keeping_tables import Export
from ingest import mappings
from ingest.mappings import MappingDraft
from ingest.models import RejectedMessage, WebhookSource
from ingest.trial import Sample
from kernel import clock, db, events, ids, postgres, settings
from kernel.models import Delivery
from maintenance.orders.code_tables import AlarmCode
from maintenance.orders.events import OrderOpened
from maintenance.parts.models import Movement
from maintenance.plans.models import OrderChecklist
from people.models import Absence, Account, Membership, Role, SavedView, SignIn, Token
from people.rights import ROLES
from qr.models import Tag
from rules.hold_tables import AlarmHold, EscalationPolicy
from rules.trend_tables import TrendWatch
from telemetry.store import open_store
from tests import factories, routes
from tests.conftest import SECRET
from tests.factories import Company
from tests.routes import ANYONE, DEVICE, OPEN, SIGNED_IN, Route
from tests.serving import served

ROUTES = routes.of_the_product()
HERE, ELSEWHERE = "harbour", "quarry"
MARK, OUR_MARK = "Zirkon", "Topas"
"""Stand in the names of the records of HERE, and of the company: nobody from elsewhere may ever read them."""

Known = dict[str, Any]
"""What the address holds so far: parameter → value."""
Maker = Callable[[Session, Company, Account, Known], Any]


# ── What the names in addresses stand for ─────────────────────────────────────────────────────────────────────


def _order(session: Session, of: Company, owner: Account, _: Known) -> int:
    asset = factories.asset(session, of, HERE, name=f"{MARK} compressor")
    order = factories.order(session, of, asset, title=f"{MARK} runs hot", assignee_id=owner.id, phase="assigned")
    checklist = factories.checklist(session, of, HERE)
    session.add(OrderChecklist(order_id=order.id, version_id=_version_of(session, checklist.id)))
    session.flush()
    return order.id


def _version_of(session: Session, checklist_id: int) -> int:
    from maintenance.plans.models import ChecklistVersion

    return session.query(ChecklistVersion).filter_by(checklist_id=checklist_id).one().id


def _hold(session: Session, of: Company, *_: Any) -> int:
    asset = factories.asset(session, of, HERE)
    moment = clock.now()
    made = AlarmHold(
        company_id=asset.company_id, unit_id=asset.unit_id, kind="out_of_service", state="live", asset_id=asset.id,
        cause="person", reason=f"{MARK} is out", by="system", began_at=moment, until=moment + timedelta(hours=1),
    )  # fmt: skip
    session.add(made)
    session.flush()
    return made.id


def _policy(session: Session, of: Company, *_: Any) -> int:
    made = EscalationPolicy(
        company_id=of.id, unit_id=of.units[HERE].id, name=f"{MARK} policy", severity="info", steps=[]
    )  # fmt: skip
    session.add(made)
    session.flush()
    return made.id


def _asset(session: Session, of: Company, _owner: Account, _: Known) -> int:
    return factories.asset(session, of, HERE, name=f"{MARK} compressor", photo_id=factories.file(session, of).id).id


def _watch(session: Session, of: Company, _owner: Account, _: Known) -> int:
    kind = factories.asset_type(session, of, f"type-{ids.token(64)}".lower())
    watched = TrendWatch(
        company_id=of.id, asset_type_id=kind.id, metric="vibration", limit=7.1, changed_at=factories.NOW
    )
    session.add(watched)
    session.flush()
    return watched.id


def _request(session: Session, of: Company, _owner: Account, _: Known) -> int:
    asset = factories.asset(session, of, HERE, name=f"{MARK} compressor")
    return factories.request(session, asset, what=f"{MARK} is loud")[0].id


def _track(session: Session, of: Company, _owner: Account, _: Known) -> str:
    asset = factories.asset(session, of, HERE)
    return factories.request(session, asset)[1]


def _entry(session: Session, of: Company, _owner: Account, known: Known) -> int:
    from maintenance.orders.models import Entry

    about = {name: known[name] for name in ("order_id", "request_id") if name in known}
    file = factories.file(session, of)
    row = Entry(**about, at=factories.NOW, actor="system", kind="photo", file_id=file.id, is_public=True)
    session.add(row)
    session.flush()
    return row.id


def _movement(session: Session, of: Company, _owner: Account, known: Known) -> int:
    order_id = known.get("order_id") or _order(session, of, _owner, known)
    stock = factories.stock(session, factories.part(session, of), factories.place(session, of, HERE))
    row = Movement(part_id=stock.part_id, place_id=stock.place_id, kind="issue", quantity=-1, unit_cost=5,
                   order_id=order_id, at=factories.NOW, by="system")  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def _reservation(session: Session, of: Company, owner: Account, known: Known) -> int:
    from maintenance.orders.models import Order

    order = session.get_one(Order, known.get("order_id") or _order(session, of, owner, known))
    stock = factories.stock(session, factories.part(session, of), factories.place(session, of, HERE))
    return factories.reservation(session, stock, order).id


def _person(session: Session, of: Company, _owner: Account, _: Known) -> int:
    username = f"person-{ids.token(64)}".lower()
    return factories.account(session, of, "technician", HERE, username=username, name=f"{MARK} Wei").id


def _membership(session: Session, _of: Company, _owner: Account, known: Known) -> int:
    person = known.get("person_id") or known["user_id"]
    return session.query(Membership).filter_by(account_id=person).first().id  # type: ignore[union-attr]  # just made


def _skill_held(session: Session, of: Company, _owner: Account, known: Known) -> int:
    person = session.get_one(Account, known.get("person_id") or known["user_id"])
    skill = factories.skill(session, of)
    factories.skilled(session, person, skill)
    return skill.id


def _skill_key(session: Session, of: Company, owner: Account, known: Known) -> str:
    _skill_held(session, of, owner, known)
    return factories.skill(session, of).key


def _absence(session: Session, _of: Company, _owner: Account, known: Known) -> int:
    row = Absence(account_id=known["person_id"], starts_at=clock.now(), ends_at=clock.now() + timedelta(days=1))
    session.add(row)
    session.flush()
    return row.id


def _role(session: Session, of: Company, _owner: Account, _: Known) -> int:
    row = Role(key=f"own-{ids.code()}".lower(), name=f"{OUR_MARK} role", rights=["orders.read"], company_id=of.id)
    session.add(row)
    session.flush()
    return row.id


def _webhook(session: Session, of: Company, _owner: Account, _: Known) -> int:
    row = WebhookSource(name=f"hook-{ids.token(64)}", proof="token", header="", nonce=MARK, created_at=clock.now(),
                        company_id=of.id, unit_id=of.units[HERE].id)  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def _delivery(session: Session, of: Company, _owner: Account, _: Known) -> int:
    event = events.emit(session, OrderOpened(1), subject=f"{MARK}:1", at=clock.now(), actor="system",
                        unit_id=of.units[HERE].id)  # fmt: skip
    event.fanned_out = True
    session.flush()
    row = Delivery(event_id=event.id, subscriber="tests.nobody", state="stuck", attempts=8, next_at=clock.now(),
                   last_error=f"{MARK} does not answer")  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def _rejected(session: Session, of: Company, _owner: Account, _: Known) -> int:
    row = RejectedMessage(received_at=clock.now(), topic=f"fw/v1/{MARK}/telemetry", payload=b"{", device_key=MARK,
                          unit_id=of.units[HERE].id, reason="not_json", digest=ids.token().encode())  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def _mapping(session: Session, of: Company, _owner: Account, _: Known) -> int:
    definition = {"topic": f"{ids.token(64)}/{{device}}", "device": "{device}", "metrics": [{"name": "x", "path": "x"}]}
    sample = Sample(definition["topic"].replace("{device}", "a"), '{"x": 1}')  # type: ignore[attr-defined]  # a text
    draft = MappingDraft(f"{MARK} mapping")
    unit = of.units[HERE]
    return mappings.add(session, draft, definition, sample, unit=unit, actor="system", now=clock.now()).id


def _sign_in(session: Session, _of: Company, owner: Account, _: Known) -> int:
    factories.sign_in(session, owner, now=clock.now())
    return session.query(SignIn).filter_by(account_id=owner.id).order_by(SignIn.id.desc()).first().id  # type: ignore[union-attr]  # just made


def _token(session: Session, _of: Company, owner: Account, _: Known) -> int:
    factories.token(session, owner, now=clock.now())
    return session.query(Token).filter_by(account_id=owner.id).order_by(Token.id.desc()).first().id  # type: ignore[union-attr]  # just made


def _metric(session: Session, _of: Company, _owner: Account, known: Known) -> int:
    from assets.models import AssetType

    return session.get_one(AssetType, known["type_id"]).metrics[0].id


def _derived(session: Session, _of: Company, _owner: Account, known: Known) -> int:
    from assets.derivations import DerivedDraft, add
    from assets.models import AssetType

    kind = session.get_one(AssetType, known["type_id"])
    draft = DerivedDraft(f"hours-{ids.token(64)}", "Hours", kind.metrics[0].key, "run_hours")
    return add(session, kind, draft, actor="system", now=clock.now()).metric_id


def _meter_change(session: Session, _of: Company, _owner: Account, known: Known) -> int:
    from assets.derived_tables import MeterChange

    row = MeterChange(asset_id=known["asset_id"], metric="pulses", kind="exchange", at=clock.now(), by="system",
                      reason=MARK, recorded_at=clock.now())  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def _type(session: Session, of: Company, _owner: Account, _: Known) -> int:
    return factories.asset_type(session, of, f"type-{ids.token(64)}".lower()).id


def _alarm(session: Session, of: Company, _owner: Account, _: Known) -> int:
    asset = factories.asset(session, of, HERE, name=f"{MARK} compressor")
    return factories.alarm(session, asset, message=f"{MARK} too hot").id


def _device(session: Session, of: Company, _owner: Account, _: Known) -> int:
    asset = factories.asset(session, of, HERE, name=f"{MARK} compressor")
    return factories.device(session, of, HERE, on=asset, name=f"{MARK} sensor").id


def _application(session: Session, of: Company, _owner: Account, _: Known) -> int:
    unit = of.units[HERE]
    return applications.apply(session, key=f"a-{ids.token(64)}".lower(), origin="secret", unit=unit,
                              name=f"{MARK} asks", said={"serial": MARK}, now=clock.now()).id  # fmt: skip


def _enrolment(session: Session, of: Company, _owner: Account, _: Known) -> int:
    kind = factories.asset_type(session, of, f"type-{ids.token(64)}".lower())
    return enrolment.offer_secret(session, ids.token(), asset_type=kind, unit=of.units[HERE], name=f"{MARK} secret",
                                  needs_approval=True, actor="system", now=clock.now()).id  # fmt: skip


def _command(session: Session, _of: Company, _owner: Account, known: Known) -> str:
    from assets.command_tables import DeviceCommand

    token = ids.token(128)
    row = DeviceCommand(token=token, device_id=known["device_id"], method=f"{MARK}.restart", kind="kept", waits=True,
                        created_at=clock.now(), actor="system", timeout_s=30, next_at=clock.now(),
                        expires_at=clock.now() + timedelta(days=1))  # fmt: skip
    session.add(row)
    session.flush()
    return token


def _tag(session: Session, of: Company, _owner: Account, _: Known) -> int:
    asset = factories.asset(session, of, HERE, name=f"{MARK} compressor")
    return factories.tag(session, of, HERE, on=asset).id


def _view(session: Session, _of: Company, owner: Account, _: Known) -> int:
    row = SavedView(account_id=owner.id, place="alarms", name=f"{MARK} {ids.token()}", query="", at=clock.now())
    session.add(row)
    session.flush()
    return row.id


def _code(session: Session, of: Company, _owner: Account, _: Known) -> int:
    row = AlarmCode(company_id=of.id, unit_id=of.id, code=f"{OUR_MARK}{ids.token(64)}", name=f"{OUR_MARK} overload")
    session.add(row)
    session.flush()
    return row.id


def _export(session: Session, of: Company, owner: Account, _: Known) -> int:
    wanted = {"format": "csv", "assets": [1], "start_ms": 0, "end_ms": 1, "zone": "UTC", "metrics": []}
    row = Export(company_id=of.id, account_id=owner.id, actor=f"account:{owner.id}", state="failed", wanted=wanted,
                 file_name="readings.csv", asked_at=factories.NOW)  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def _import(session: Session, of: Company, owner: Account, _: Known) -> int:
    from ingest.models import HistoryImport

    row = HistoryImport(company_id=of.id, account_id=owner.id, actor=f"account:{owner.id}", state="failed",
                        file_name="history.csv", zone="UTC", backdates=False, asked_at=factories.NOW)  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def _backtest(session: Session, of: Company, owner: Account, _: Known) -> int:
    from rules.models import Backtest

    definition = {"schema": 1, "create": {"major": {"condition": {
        "type": "compare", "metric": "temperature", "operator": ">=", "limit": 90.0}}}}  # fmt: skip
    wanted = {"definition": definition, "assets": [factories.asset(session, of, HERE, name=f"{MARK} one").id],
              "start_ms": 0, "end_ms": 1, "current": None, "version": None, "current_version": None,
              "order_from": "major", "window_h": 24.0}  # fmt: skip
    row = Backtest(company_id=of.id, account_id=owner.id, actor=f"account:{owner.id}", state="queued", name="draft",
                   wanted=wanted, assets=1, asked_at=factories.NOW)  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def _site(_session: Session, of: Company, _owner: Account, _: Known) -> int:
    return of.sites[HERE].id


def _plan(session: Session, of: Company, _owner: Account, _: Known) -> int:
    asset = factories.asset(session, of, HERE, name=f"{MARK} compressor")
    return factories.plan(session, of, asset, name=f"{MARK} round").id


def _action(session: Session, of: Company, _owner: Account, known: Known) -> int:
    from rules.action_tables import AlarmAction

    whose = (
        {"code": session.get_one(AlarmCode, known["code_id"]).code}
        if "code_id" in known
        else {"alarm_type_id": known["rule_id"]}
    )
    row = AlarmAction(company_id=of.id, **whose, position=1, occasion="raise", severity="info", kind="webhook",
                      settings={"url": f"https://{MARK}.example", "key": "k"})  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


@dataclass(frozen=True, slots=True)
class Record:
    """How to make what a parameter stands for, and whose it is: of a unit, of the whole company, or one's own."""

    make: Maker
    of: str = "unit"


RECORDS: Mapping[str, Record] = {
    "action_id": Record(_action),
    "absence_id": Record(_absence),
    "alarm_id": Record(_alarm),
    "application_id": Record(_application),
    "asset_id": Record(_asset),
    "backtest_id": Record(_backtest, of="owner"),
    "change_id": Record(_meter_change),
    "checklist_id": Record(lambda session, of, *_: factories.checklist(session, of, HERE).id),
    "code_id": Record(_code, of="company"),
    "command_id": Record(_command),
    "delivery_id": Record(_delivery),
    "derived_id": Record(_derived, of="company"),
    "device_id": Record(_device),
    "digest": Record(lambda *_: "0" * 64),
    "enrolment_id": Record(_enrolment),
    "entry_id": Record(_entry),
    "export_id": Record(_export, of="owner"),
    "hold_id": Record(_hold),
    "import_id": Record(_import, of="owner"),
    "item_key": Record(lambda *_: "oil"),
    "location_id": Record(lambda session, of, *_: factories.location(session, of, HERE, name=f"{MARK} hall").id),
    "mapping_id": Record(_mapping),
    "membership_id": Record(_membership),
    "metric_id": Record(_metric, of="company"),
    "movement_id": Record(_movement),
    "order_id": Record(_order),
    "part_id": Record(lambda session, of, *_: factories.part(session, of, name=f"{OUR_MARK} filter").id, of="company"),
    "person_id": Record(_person),
    "place_id": Record(lambda session, of, *_: factories.place(session, of, HERE, name=f"{MARK} store").id),
    "plan_id": Record(_plan),
    "policy_id": Record(_policy),
    "rejected_id": Record(_rejected),
    "watch_id": Record(_watch, of="company"),
    "webhook_id": Record(_webhook),
    "/api/v1/intake/webhook/{name}": Record(lambda *_: "hook"),
    "request_id": Record(_request),
    "reservation_id": Record(_reservation),
    "role_id": Record(_role, of="company"),
    "rule_id": Record(lambda session, of, *_: factories.alarm_type(session, of, HERE, name=f"{MARK} hot").id),
    "shift_id": Record(lambda session, _of, _owner, known: factories.shift(
        session, session.get_one(Account, known["person_id"])).id),
    "sign_in_id": Record(_sign_in, of="owner"),
    "site_id": Record(_site),
    "skill": Record(_skill_key),
    "skill_id": Record(_skill_held),
    "tag_id": Record(_tag),
    "team_id": Record(lambda session, of, *_: factories.team(session, of, HERE).id),
    "/t/{token}": Record(_track),
    "/q/{token}": Record(lambda session, of, *_: session.get_one(Tag, _tag(session, of, None, {})).token),  # type: ignore[arg-type]  # needs no owner
    "token_id": Record(_token, of="owner"),
    "type_id": Record(_type, of="company"),
    "unit_id": Record(lambda session, of, *_: factories.unit(
        session, of.units[HERE], f"{MARK} corner", kind="site").id, of="branch"),
    "user_id": Record(_person),
    "view_id": Record(_view, of="owner"),
}  # fmt: skip
"""Name in an address, or the address up to it, → how to make one."""

NOTHING_THERE = {
    "GET /exports/{export_id}/file": "the row is made, not the file",
    "GET /api/v1/telemetry/exports/{export_id}/file": "the same",
    "GET /assets/{asset_id}/photo": "the factory makes the row of a picture, not the picture",
    "GET /orders/{order_id}/photos/{entry_id}": "the same",
    "GET /requests/{request_id}/photos/{entry_id}": "the same",
    "GET /t/{token}/photos/{digest}": "the same",
    "GET /assets/branch": "asked without naming a branch",
}
"""Routes that answer 404 within one's own sight too, and why."""

DECIDED_WITHIN = {
    path
    for verb in ("accept", "refuse", "depart", "arrive", "start", "pause", "resume", "finish", "verify", "send_back",
                 "close", "cancel", "checklist/{item_key}", "photos", "comments")
    for path in (f"/orders/{{order_id}}/{verb}", f"/api/v1/orders/{{order_id}}/{verb}", f"/jobs/{{order_id}}/{verb}")
}  # fmt: skip
"""Verbs of an order whose right depends on its phase and on who has it: the verb itself says 403 to some of those
who may see the order. ``tests/maintenance/orders`` holds the table of who may do which."""


HIDDEN = {
    **dict.fromkeys(
        (
            "POST /api/v1/devices/{device_id}/commands",
            "POST /api/v1/devices/{device_id}/commands/{command_id}/cancel",
            "PUT /api/v1/devices/{device_id}/desired",
            "POST /devices/{device_id}/commands",
            "POST /devices/{device_id}/commands/{command_id}/again",
            "POST /devices/{device_id}/commands/{command_id}/cancel",
            "POST /devices/{device_id}/desired",
        ),
        "devices.command",
    ),
}
"""Routes that take a second right. Who lacks it is told that nothing is there: 404 (ING-13)."""


# ── The world ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class World:
    """The product served over two companies, and a signed-in client for anybody in them."""

    sessions: sessionmaker[Session]
    address: str
    acme: Company
    other: Company
    known: Known
    stack: ExitStack
    clients: dict[tuple[str, str, str], httpx.Client] = field(default_factory=dict)
    untouched: dict[str, str] = field(default_factory=dict)

    def client(self, of: Company, role: str, where: str) -> httpx.Client:
        """Return a client of the account that holds a role somewhere."""
        key = (of.key, role, where)
        if key not in self.clients:
            with db.transaction(self.sessions) as session:
                secret, csrf = factories.sign_in(session, self.account(session, *key), now=clock.now())
            made = self.stranger()
            made.cookies.set(access.COOKIE, secret)
            made.headers["X-CSRF-Token"] = csrf
            self.clients[key] = made
        return self.clients[key]

    def account(self, session: Session, company: str, role: str, where: str) -> Account:
        of = self.acme if company == self.acme.key else self.other
        return factories.account(session, of, role, where)

    def stranger(self) -> httpx.Client:
        """Return a client of nobody."""
        plainly = {"Accept-Encoding": "identity"}
        return self.stack.enter_context(httpx.Client(base_url=self.address, headers=plainly, timeout=60))

    def filled(self, route: Route, role: str, where: str) -> str:
        """Return the route's address with a fresh record for every name in it."""
        known: Known = {}
        with db.transaction(self.sessions) as session:
            session.execute(text("SET LOCAL synchronous_commit = off"))
            owner = self.account(session, self.acme.key, role, where)
            for name in route.parameters:
                known[name] = _record(route, name).make(session, self.acme, owner, known)
        return route.path.replace(":path", "").format(**known)


@pytest.fixture(scope="module")
def world(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Serve the product once for all routes; what one route changes does not matter to the next."""
    name = "rights_of_every_route"
    postgres.create(postgres_url.replace("/template_fixwright?", "/postgres?"), name, template="template_fixwright")
    engine = db.connect(postgres_url.replace("/template_fixwright?", f"/{name}?"), pool=12)
    folder: Path = tmp_path_factory.mktemp("rights")
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        store = open_store(None, folder)
        stack.callback(store.close)
        sessions = db.sessions(engine, secret=SECRET)
        own = settings.load(data_dir=folder, database_pool=8)
        address = stack.enter_context(served(create(Runtime(own, engine, sessions, store, SECRET))))
        with db.transaction(sessions) as session:
            acme, other = factories.company(session), factories.company(session, "other", "Other Works")
            known = _known(session, acme)
            for role in ROLES:
                for where in ("company", HERE, ELSEWHERE):
                    factories.account(session, acme, role, where)
                factories.account(session, other, role, "company")
        yield World(sessions, address, acme, other, known, stack)


def _known(session: Session, acme: Company) -> Known:
    """Return what to put into a body's field by its name, so that requests are about something that exists."""
    asset = factories.asset(session, acme, HERE, name=f"{MARK} compressor")
    part, place = factories.part(session, acme), factories.place(session, acme, HERE, name=f"{MARK} store")
    factories.stock(session, part, place, on_hand=100_000)
    order = factories.order(session, acme, asset, title=f"{MARK} runs hot")
    here = acme.units[HERE].id
    # Acts on several things name the first of each: it exists whichever tests run.
    _application(session, acme, factories.account(session, acme, "administrator", "company"), {})
    factories.alarm(session, asset)
    return {
        "asset_id": asset.id,
        "site_id": acme.sites[HERE].id,
        "unit_id": here,
        "home_unit_id": here,
        "type_id": asset.type_id,
        "part_id": part.id,
        "place_id": place.id,
        "from_place_id": place.id,
        "to_place_id": factories.place(session, acme, HERE).id,
        "order_id": order.id,
        "account_id": factories.account(session, acme, "technician", HERE).id,
        "device_id": factories.device(session, acme, HERE).id,
        "role_id": acme.roles["technician"].id,
        "members": [],
        "rights": ["orders.read"],
        "weekday": [1],
        "unit": str(here),
        "at": str(here),
        "parent": str(acme.units["north"].id),
        "role": str(acme.roles["technician"].id),
        "skill": str(factories.skill(session, acme, "welding").id),
        "kind": "region",
        "zone": "UTC",
        "language": "en",
        "password": "quite a long one",
        "valid_from": "2026-12-01",
        "starts": "08:00",
        "ends": "17:00",
        "starts_at": "2026-12-01T08:00:00Z",
        "ends_at": "2026-12-02T08:00:00Z",
        "rrule": "FREQ=WEEKLY",
        "text": "well",
        "reason": "sample",
    }


def _untouched(world: World, route: Route) -> str:
    """Return the address with records that are only asked for by those who must not get through to them."""
    if route.path not in world.untouched:
        world.untouched[route.path] = world.filled(route, "administrator", "company" if not route.parameters else HERE)
    return world.untouched[route.path]


def _record(route: Route, name: str) -> Record:
    up_to = route.path.partition(f"{{{name}}}")[0] + f"{{{name}}}"
    return RECORDS.get(up_to) or RECORDS[name]


def _scope(route: Route) -> str:
    """Return whose the record in the address is: the first name decides."""
    return _record(route, route.parameters[0]).of


def _is_own(route: Route) -> bool:
    return bool(route.parameters) and _scope(route) == "owner"


# ── The questions ─────────────────────────────────────────────────────────────────────────────────────────────


def ask(world: World, client: httpx.Client, route: Route, address: str) -> httpx.Response:
    """Send one request; of an endless stream only its head is read."""
    wanted = routes.request_for(route, _body(route, world.known)) if route.changes or not route.parameters else {}
    with client.stream(route.method, address, **wanted) as answer:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            answer.read()
        return answer


def _body(route: Route, known: Known) -> Known:
    """Leave out of the body what would move the record out of its own place, or name it twice."""
    plain = {name: value for name, value in known.items() if name not in route.parameters}
    if "/units" not in route.path:
        plain.pop("kind", None)
    if "/users/" in route.path:
        plain.pop("skill", None)
    if "rejected" in route.path:
        plain.pop("reason", None)
    return plain


def roles_with(right: str) -> list[str]:
    return [key for key, (_, rights) in ROLES.items() if right in rights]


def test_SE_1_every_route_declares_who_may_use_it() -> None:
    assert [str(route) for route in ROUTES if route.declares is None] == []


def test_SE_1_every_name_in_an_address_has_a_record_to_ask_with() -> None:
    missing = {
        str(route): name
        for route in ROUTES
        for name in route.parameters
        if name not in RECORDS and route.path.partition(f"{{{name}}}")[0] + f"{{{name}}}" not in RECORDS
    }
    assert missing == {}


def test_SE_1_the_exceptions_are_routes_that_exist() -> None:
    assert NOTHING_THERE.keys() | HIDDEN.keys() <= {str(route) for route in ROUTES}


def test_SE_1_no_route_of_the_served_product_was_overlooked(world: World) -> None:
    described = httpx.get(f"{world.address}/openapi.json", timeout=60).json()["paths"]
    offered = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    assert offered <= {str(route) for route in ROUTES}


@pytest.mark.parametrize("route", [route for route in ROUTES if route.declares not in {ANYONE, OPEN, DEVICE}], ids=str)
def test_SE_1_nobody_and_those_without_the_right_are_refused(world: World, route: Route) -> None:
    address = _untouched(world, route)
    answer = ask(world, world.stranger(), route, address)
    if route.is_api:
        assert answer.status_code == 401
    else:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")

    for role in ROLES.keys() - set(roles_with(route.declares or "")) if route.declares != SIGNED_IN else ():
        assert ask(world, world.client(world.acme, role, HERE), route, address).status_code == 403, role


@pytest.mark.parametrize("route", [route for route in ROUTES if route.declares not in {ANYONE, OPEN, DEVICE}], ids=str)
def test_SE_1_a_role_with_the_right_gets_through_to_its_own(world: World, route: Route) -> None:
    where = HERE if route.parameters and _scope(route) in {"unit", "owner"} else "company"
    address = ""
    for role in ROLES if route.declares == SIGNED_IN else roles_with(route.declares or ""):
        client = world.client(world.acme, role, where)
        if route.changes or not address or _is_own(route):
            address = world.filled(route, role, where)
        status = ask(world, client, route, address).status_code
        if str(route) in NOTHING_THERE or HIDDEN.get(str(route), route.declares) not in {*ROLES[role][1], SIGNED_IN}:
            assert status == 404, role
        elif status == 403:
            assert route.path in DECIDED_WITHIN, f"{role} holds {route.declares} and is refused"
        else:
            assert status < 500, role
            assert status not in {401, 404, 405}, role


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.parameters and route.declares not in {ANYONE, OPEN, DEVICE}], ids=str
)
def test_SE_1_the_same_role_elsewhere_finds_nothing(world: World, route: Route) -> None:
    scope, address = _scope(route), _untouched(world, route)
    for role in ROLES if route.declares == SIGNED_IN else roles_with(route.declares or ""):
        others = [world.client(world.other, role, "company")]
        if scope != "company":
            others.append(world.client(world.acme, role, ELSEWHERE))
        for client in others:
            answer = ask(world, client, route, address)
            assert answer.status_code == 404, f"{role}: {answer.text[:300]}"
            assert MARK not in answer.text
            assert OUR_MARK not in answer.text


@pytest.mark.parametrize(
    "route",
    [
        route
        for route in ROUTES
        if not route.changes and not route.parameters and route.declares not in {ANYONE, OPEN, DEVICE}
    ],
    ids=str,
)
def test_SE_1_no_list_search_or_map_shows_what_lies_elsewhere(world: World, route: Route) -> None:
    with db.transaction(world.sessions) as session:
        owner = factories.account(session, world.acme, "administrator", HERE)
        for record in (_order, _request, _alarm, _device, _plan, _rejected, _delivery, _person, _tag, _role, _mapping):
            record(session, world.acme, owner, {})
    wanted = routes.request_for(route, world.known)
    searches = [{"q": mark[1:5].lower()} for mark in (MARK, OUR_MARK)] if "q" in route.query else []
    for role in ROLES if route.declares == SIGNED_IN else roles_with(route.declares or ""):
        foreign = world.client(world.other, role, "company")
        for client in (world.client(world.acme, role, ELSEWHERE), foreign):
            # A part of the mark, so that the words looked for are not found in the search box.
            for extra in ({}, *searches):
                answer = _list(client, route, {**wanted.get("params", {}), **extra})
                assert answer.status_code < 500, role
                assert MARK not in answer.text, role
                assert client is not foreign or OUR_MARK not in answer.text, role


def _list(client: httpx.Client, route: Route, params: dict[str, Any]) -> httpx.Response:
    with client.stream("GET", route.path, params=params) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return httpx.Response(answer.status_code, text="")
        answer.read()
        return answer


@pytest.mark.parametrize("route", [route for route in ROUTES if route.declares == ANYONE], ids=str)
def test_SE_1_a_public_route_asks_for_no_account_and_knows_no_forged_token(world: World, route: Route) -> None:
    status = ask(world, world.stranger(), route, world.filled(route, "administrator", HERE)).status_code
    assert status < 500
    assert status not in {401, 403}
    assert status != 404 or str(route) in NOTHING_THERE
    if "{token}" in route.path:
        forged = route.path.format(**dict.fromkeys(route.parameters, ids.token()))
        assert ask(world, world.stranger(), route, forged).status_code == 404


@pytest.mark.parametrize("route", [route for route in ROUTES if route.declares == OPEN], ids=str)
def test_SE_1_what_is_open_to_all_answers_all(world: World, route: Route) -> None:
    assert world.stranger().request(route.method, route.path).status_code == 200


@pytest.mark.parametrize("route", [route for route in ROUTES if route.declares == DEVICE], ids=str)
def test_SE_1_what_devices_use_opens_to_no_account(world: World, route: Route) -> None:
    address = _untouched(world, route)
    for client in (world.stranger(), world.client(world.acme, "administrator", "company")):
        assert ask(world, client, route, address).status_code == 401
