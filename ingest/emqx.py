"""An EMQX cluster told to end the connections of a device whose credentials are void, through its management API.

``FIXWRIGHT_EMQX_API_URL`` holds the address with an API key and its secret. Where it is not set, EMQX lets a
connection live until it ends by itself; it gets no further in than its rights, which are asked for again.
"""

from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import msgspec
import urllib3

from assets import identity
from kernel import log
from kernel.errors import Misconfigured

_TIMEOUT_S: Final = 2.0
_AT_MOST: Final = 100

_log = log.of(__name__)


class Management:
    """The management API of one cluster. For any thread."""

    def __init__(self, url: str) -> None:
        """Take the address apart.

        Raises:
            Misconfigured: it lacks a scheme, a host, a key or a secret.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not parts.username or not parts.password:
            raise Misconfigured("FIXWRIGHT_EMQX_API_URL must read http://key:secret@host:18083 or https://…")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = f":{parts.port}" if parts.port else ""
        self._base = f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}/api/v5"
        shown = f"{unquote(parts.username)}:{unquote(parts.password)}"
        self._headers = urllib3.make_headers(basic_auth=shown)
        self._http = urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False)

    def end(self, device: str) -> int:
        """End every connection of a device, under whichever of its user names; return how many there were."""
        ended = 0
        first = identity.next_alias(device, None)
        for user in (device, first, identity.next_alias(device, first)):
            try:
                for client in self._clients(user):
                    self._ask("DELETE", f"/clients/{quote(client, safe='')}")
                    ended += 1
            except (urllib3.exceptions.HTTPError, msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
                _log.error("EMQX did not end the connections of a device", device=device, reason=str(error))
        return ended

    def _clients(self, user: str) -> list[str]:
        found = self._ask("GET", f"/clients?username={quote(user, safe='')}&limit={_AT_MOST}")
        return [str(one["clientid"]) for one in found["data"] if one.get("username") == user]

    def _ask(self, method: str, path: str) -> Any:  # noqa: ANN401 - JSON
        answer = self._http.request(method, self._base + path, headers=self._headers)
        if method == "DELETE" and answer.status == 404:  # noqa: PLR2004 - it was gone already
            return None
        if answer.status >= 300:  # noqa: PLR2004 - not as asked
            raise ValueError(f"{method} answered {answer.status}")
        return msgspec.json.decode(answer.data) if answer.data else None
