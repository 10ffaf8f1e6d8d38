"""Readings over HTTP, from devices and gateways with their own secret, and from webhooks of other systems.

They go the way of MQTT messages, and the answer leaves only after what it speaks of is durable: 200 says what was
stored, what was known already and what was set aside and why, line by line. A request that was not answered, or was
answered with 429 or 503, may be sent again; what was stored of it is recognised by device, metric and time.
"""

import asyncio
import base64
import binascii
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api import problems
from api.access import Parts, address_of
from api.runtime import Runtime
from assets.identity import Login
from ingest import csvrows, lines, webhooks
from ingest.batch import Batch
from ingest.decode import MAX_PAYLOAD
from ingest.decoded import Reason
from ingest.fates import Fates
from ingest.mapping import WEBHOOKS
from ingest.run import Ingest
from ingest.topics import ROOT
from kernel import clock, db, i18n, limits
from kernel.errors import Forbidden, Invalid, TooLarge, Unauthenticated, Unavailable
from kernel.settings import host_and_port

router = APIRouter(prefix="/intake", tags=["intake"])

NAMED: Final = 1000
"""At most so many of the messages set aside are named in an answer; all are counted."""
WRONG_A_MINUTE: Final = 30
"""Wrong secrets from one address in a minute, after which it has to wait."""
WEBHOOK_A_MINUTE: Final = 6000
"""Messages that a webhook source may post in a minute."""
_NO_SOURCE: Final = i18n.noop("There is no such webhook source, or its secret is wrong.")
_MINUTE: Final = timedelta(minutes=1)
_JOINT: Final = "~"
"""Stands between user name and password in a bearer token; no password we draw holds one."""
_WRONG: Final = i18n.noop("The device key or its password is wrong.")
_NOTHING: Final = i18n.noop("Nothing of it could be used; it was set aside.")
_OVER: Final = i18n.noop("The device or its company sends more than it may. Send this again later, and less at once.")
_ANYWHERE: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - recognised, not bound

Precision = Literal["ns", "us", "ms", "s"]


class RejectOut(BaseModel):
    """Something that was set aside. ``line`` counts from 1; null where the body is one message."""

    line: int | None
    device: str | None
    reason: str
    detail: str


class IntakeOut(BaseModel):
    """What became of a body, message by message (in a gateway's message, part by part).

    received = stored + duplicate + rejected. ``rejects`` names at most 1,000.
    """

    received: int
    stored: int
    duplicate: int
    rejected: int
    rejects: list[RejectOut]


Answer = IntakeOut | Response


@dataclass(frozen=True, slots=True)
class Sender:
    """A device that was recognised, and the one its body speaks for: itself, or one behind it."""

    key: str
    device: str


async def sender(
    request: Request,
    parts: Parts,
    device: Annotated[
        str | None, Query(description="Key of the device this is from, if a gateway posts for one behind it.")
    ] = None,
) -> Sender:
    """Recognise a device by HTTP Basic (its key and password), or by ``Bearer key~password``.

    Raises:
        Unavailable: this process stores no readings; the sentence names the one that does.
        Unauthenticated: the credentials are missing or wrong.
        TooMany: too many wrong ones came from this address.
        Forbidden: the device may not speak for the one named.
    """
    login = _login(request.headers.get("authorization", ""))
    ingest = held(parts)
    window = f"intake:{address_of(request)}"
    await _in_place(request, _require_room, parts, window)
    known = await asyncio.wrap_future(ingest.recognise(login))
    if known is None:
        await _in_place(request, _count_wrong, parts, window)
        raise Unauthenticated(_WRONG)
    if device is not None and device != known and not ingest.stands_behind(device, known):
        raise Forbidden("{device} does not belong to gateway {gateway}.", device=device[:64], gateway=known)
    return Sender(known, device or known)


BySecret = Annotated[Sender, Depends(sender)]


@router.post("/telemetry", response_model=IntakeOut)
async def telemetry(request: Request, parts: Parts, by: BySecret) -> Answer:
    """Take one of the four JSON forms of telemetry."""
    return await _one(request, parts, f"{ROOT}/{by.device}/telemetry")


@router.post("/gateway/telemetry", response_model=IntakeOut)
async def gateway_telemetry(request: Request, parts: Parts, by: BySecret) -> Answer:
    """Take the telemetry of many devices behind a gateway: ``{"deviceA": [{"ts": …, "values": {…}}], …}``."""
    return await _one(request, parts, f"{ROOT}/{by.key}/gateway/telemetry")


@router.post("/attributes", response_model=IntakeOut)
async def attributes(request: Request, parts: Parts, by: BySecret) -> Answer:
    """Take what a device says about itself: a JSON object."""
    return await _one(request, parts, f"{ROOT}/{by.device}/attributes")


@router.post("/alarm", response_model=IntakeOut)
async def alarm(request: Request, parts: Parts, by: BySecret) -> Answer:
    """Take an alarm; an answer of 200 is its acknowledgement."""
    return await _one(request, parts, f"{ROOT}/{by.device}/alarm")


@router.post("/lines", response_model=IntakeOut)
async def line_protocol(request: Request, parts: Parts, by: BySecret, precision: Precision = "ns") -> Answer:
    """Take InfluxDB line protocol; ``precision`` is the unit of its timestamps."""
    body = await _body(request, parts)
    topic = f"{ROOT}/{by.device}/lines/{precision}"
    return await _many(request, parts, topic, await run_in_threadpool(list, lines.split(body)))


@router.post("/csv", response_model=IntakeOut)
async def csv_rows(request: Request, parts: Parts, by: BySecret, zone: str = "") -> Answer:
    """Take CSV with a header; ``zone`` (such as ``Europe/Berlin``) is that of times without an offset."""
    body = await _body(request, parts)
    return await _many(
        request, parts, f"{ROOT}/{by.device}/csv", await run_in_threadpool(list, csvrows.split(body, zone))
    )


async def source(request: Request, parts: Parts, name: str, token: str = "") -> str:
    """Recognise a webhook source by its token (``Authorization: Bearer …`` or ``?token=``) or its signature.

    Raises:
        Unauthenticated: there is no such source, or its proof is wrong.
        TooMany: too many wrong ones came from this address, or the source posts more than it may.
    """
    window = f"intake:{address_of(request)}"
    await _in_place(request, _require_room, parts, window)
    body = await request.body()
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    shown = shown.strip() if scheme.lower() == "bearer" else token

    def check(parts: Runtime, name: str) -> None:
        with db.transaction(parts.sessions) as session:
            found = webhooks.named(session, name)
            if found is None:
                raise Unauthenticated(_NO_SOURCE)
            secret = webhooks.secret_of(parts.secret, found)
            signature = request.headers.get(found.header, "") if found.proof == "signature" else ""
            is_right = (
                webhooks.is_signed(secret, body, signature)
                if found.proof == "signature"
                else webhooks.is_secret(secret, shown)
            )
            if not is_right:
                raise Unauthenticated(_NO_SOURCE)
            now = clock.now()
            limits.spend(session, f"webhook:{found.id}", limit=WEBHOOK_A_MINUTE, window=_MINUTE, now=now)
            webhooks.used(session, found, now=now)

    try:
        await _in_place(request, check, parts, name)
    except Unauthenticated:
        await _in_place(request, _count_wrong, parts, window)
        raise
    return name


@router.post("/webhook/{name}", response_model=IntakeOut)
async def webhook(request: Request, parts: Parts, name: Annotated[str, Depends(source)]) -> Answer:
    """Take a message of another system; 202 means that it is kept until a payload mapping understands it."""
    ingest, body = held(parts), await _body(request, parts)
    if len(body) > MAX_PAYLOAD:
        raise TooLarge("A message holds at most {n} bytes. Send less at once.", field="body", n=MAX_PAYLOAD)
    fates = await asyncio.wrap_future(ingest.submit(Batch.of([(f"{WEBHOOKS}{name}", body)])))
    said = _said(fates, [None])
    # Kept and replayable: to be told to send it again would help nobody.
    return JSONResponse(said.model_dump(), 202) if said.rejected == said.received else said


# From the body to the answer --------------------------------------------------------------------------------------


async def _one(request: Request, parts: Runtime, topic: str) -> Answer:
    body = await _body(request, parts)
    if len(body) > MAX_PAYLOAD:
        raise TooLarge("A message holds at most {n} bytes. Send less at once.", field="body", n=MAX_PAYLOAD)
    return await _stored(request, held(parts), Batch.of([(topic, body)]), [None])


async def _many(request: Request, parts: Runtime, topic: str, numbered: list[tuple[int, bytes]]) -> Answer:
    if not numbered:
        raise Invalid("There is nothing in the body.", field="body")
    batch = Batch.of([(topic, payload) for _, payload in numbered])
    return await _stored(request, held(parts), batch, [line for line, _ in numbered])


async def _stored(request: Request, ingest: Ingest, batch: Batch, numbers: Sequence[int | None]) -> Answer:
    """Hand a batch over, wait until it is durable, and say what became of it."""
    fates = await asyncio.wrap_future(ingest.submit(batch))
    said = _said(fates, numbers)
    if said.rejected < said.received:
        return said
    if all(one.reason is Reason.OVER_LIMIT for rejects in fates.rejects for one in rejects):
        headers = {"Retry-After": "60"}
        return problems.answer(request, 429, i18n.gettext(_OVER), headers=headers, **said.model_dump())
    return problems.answer(request, 422, i18n.gettext(_NOTHING), **said.model_dump())


def _said(fates: Fates, numbers: Sequence[int | None]) -> IntakeOut:
    stored, duplicate = int(fates.stored.sum()), int(fates.duplicate.sum())
    rejected = sum(map(len, fates.rejects))
    named = [
        RejectOut(line=number, device=one.device or None, reason=one.reason, detail=one.detail)
        for number, rejects in zip(numbers, fates.rejects, strict=True)
        for one in rejects
    ]
    return IntakeOut(
        received=stored + duplicate + rejected,
        stored=stored,
        duplicate=duplicate,
        rejected=rejected,
        rejects=named[:NAMED],
    )


# The request --------------------------------------------------------------------------------------------------------


def held(parts: Runtime) -> Ingest:
    """Return the data path of this process.

    Raises:
        Unavailable: it has none; the sentence says where it is.
    """
    if parts.ingest is not None:
        return parts.ingest
    bind = parts.settings.intake_bind
    if bind is None:
        raise Unavailable(
            "This process stores no readings. Set FIXWRIGHT_INTAKE_BIND for the one that runs fixwright ingest, and "
            "post there."
        )
    host, port = host_and_port(bind)
    if host in _ANYWHERE:
        raise Unavailable(
            "This process stores no readings. Post to port {port} of the machine that runs fixwright ingest.", port=port
        )
    raise Unavailable("This process stores no readings. Post to http://{bind}/api/v1/intake/…", bind=bind)


def _login(header: str) -> Login:
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        user, joint, password = rest.strip().rpartition(_JOINT)
    elif scheme.lower() == "basic":
        try:
            user, joint, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthenticated(_WRONG) from None
    else:
        raise Unauthenticated("Please send the device's key and password (HTTP Basic), or Bearer key~password.")
    if not joint:
        raise Unauthenticated(_WRONG)
    return Login(user, password, client_id="")


async def _body(request: Request, parts: Runtime) -> bytes:
    """Return the body, unpacked where it is packed.

    Raises:
        Invalid: it says it is gzip and is not.
        TooLarge: unpacked it is larger than an upload may be.
    """
    body = await request.body()
    if request.headers.get("content-encoding", "").lower() != "gzip":
        return body
    most = parts.settings.upload_max_mb * 1_000_000
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = await run_in_threadpool(unpacker.decompress, body, most)
    except zlib.error as error:
        raise Invalid("The body is no gzip.", field="body") from error
    if unpacker.unconsumed_tail:
        raise TooLarge("The file is larger than {limit} MB.", field="body", limit=parts.settings.upload_max_mb)
    return unpacked


async def _in_place(request: Request, work: Callable[[Runtime, str], None], parts: Runtime, window: str) -> None:
    """Run something on the database, with no more inside than there are connections."""
    async with request.app.state.places:
        await run_in_threadpool(work, parts, window)


def _require_room(parts: Runtime, window: str) -> None:
    with db.transaction(parts.sessions) as session:
        limits.require_room(session, window, limit=WRONG_A_MINUTE, window=_MINUTE, now=clock.now())


def _count_wrong(parts: Runtime, window: str) -> None:
    with db.transaction(parts.sessions) as session:
        limits.count(session, window, window=_MINUTE, now=clock.now())
