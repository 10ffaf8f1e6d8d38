"""Who comes in through the embedded broker, and who is shown out of whichever broker there is.

A device with a certificate that nobody registered is refused at first and looked at aside: if an authority that
somebody trusts signed the certificate, it is registered (or waits for approval) and comes in at its next attempt.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.orm import Session, sessionmaker

from assets import enrolment, identity
from assets.identity import Admission, Login
from ingest.credentials import Checker
from ingest.emqx import Management
from ingest.registry import Registry
from kernel import clock, db, log
from kernel.errors import FixwrightError, Unauthenticated
from kernel.settings import Settings

if TYPE_CHECKING:
    from ingest.broker import EmbeddedBroker

_NEWCOMERS: Final = 100
_AT_ONCE: Final = 20

_log = log.of(__name__)


class Doorway:
    """The door of one ingest process. It belongs to the loop."""

    def __init__(self, registry: Registry, sessions: sessionmaker[Session], settings: Settings) -> None:
        self._registry = registry
        self._sessions = sessions
        self._checker = Checker()
        self._newcomers: dict[str, bytes] = {}
        self._endings: set[asyncio.Task[int]] = set()
        url = settings.emqx_api_url
        self._management = None if url is None else Management(url.get_secret_value())

    def recognise(self, login: Login) -> Admission | None:
        """Return the admission of what a connection shows, or None."""
        device = self._registry.device_by_key(login.key)
        if device is None:
            if login.certificate is not None and login.common_name == login.key and len(self._newcomers) < _NEWCOMERS:
                self._newcomers.setdefault(login.key, login.certificate)
            return None
        if device.is_revoked:
            return None
        now, is_right = clock.now(), self._checker.is_right
        return identity.admit(device.credentials, login, key=device.key, now=now, is_right=is_right)

    async def meet(self) -> None:
        """Look at devices with certificates that nobody registered."""
        for key in list(self._newcomers)[:_AT_ONCE]:
            certificate = self._newcomers.pop(key)
            await asyncio.to_thread(self._meet, key, certificate)

    def _meet(self, key: str, certificate: bytes) -> None:
        said: dict[str, Any] = {"certificate": "shown to the embedded broker"}
        try:
            with db.transaction(self._sessions) as session:
                enrolment.join_with_certificate(session, certificate, said=said, now=clock.now())
        except Unauthenticated:
            _log.warning("a certificate names a device that nobody registered", device=key)
        except FixwrightError as error:
            _log.warning("a device with a trusted certificate cannot come in", device=key, reason=str(error))

    def end(self, devices: Iterable[str], own: "EmbeddedBroker | None") -> None:
        """End the connections of devices whose credentials are void: at our own broker now, at EMQX aside."""
        for device in devices:
            if own is not None:
                own.disconnect(device)
            elif self._management is not None:
                ending = asyncio.create_task(asyncio.to_thread(self._management.end, device))
                self._endings.add(ending)
                ending.add_done_callback(self._endings.discard)
