"""No request may bring more than what the largest form of ours can hold, whoever sends it and however it is framed.

Form parts are spooled to the disk and other bodies gathered in memory before a route sees them, so without a bound
a stranger at the report page could fill both. A body that is announced too long is refused before its first byte.
"""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kernel.errors import TooLarge

HISTORY = re.compile(r"/api/v1/telemetry/imports/[0-9]+/file")
"""Is read piece by piece, by somebody who has been recognised before."""
FILES_A_FORM = 7
"""As many as a report may bring, and one more, so that its page can say so."""


class Bounded:
    """Wraps the application; ``upload_mb`` is the largest accepted file, which bounds every other body too.

    Files of history may be of ``history_mb``.
    """

    def __init__(self, app: ASGIApp, *, upload_mb: int, history_mb: int = 0) -> None:
        self.app = app
        self.upload_mb = upload_mb
        self.history_mb = history_mb

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with a body that ends in an error where it grows too long."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"")
        is_form = kind.startswith(b"multipart/form-data")
        most_mb = self.upload_mb * FILES_A_FORM if is_form else self.upload_mb
        # A form would be gathered in memory before anybody is recognised.
        is_plain = not kind.startswith((b"multipart/", b"application/x-www-form-urlencoded"))
        if is_plain and scope["method"] == "PUT" and HISTORY.fullmatch(scope["path"]):
            most_mb = self.history_mb
        announced = headers.get(b"content-length", b"")
        read = int(announced) if announced.isdigit() and int(announced) > most_mb * 1_000_000 else 0

        async def bounded() -> Message:
            nonlocal read
            if read > most_mb * 1_000_000:
                raise TooLarge("The file is larger than {limit} MB.", field="photos", limit=most_mb)
            message = await receive()
            read += len(message.get("body", b""))
            return message

        await self.app(scope, bounded, send)
