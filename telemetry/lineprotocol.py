"""Readings as InfluxDB line protocol, and the client that sends it: shared by VictoriaMetrics and InfluxDB.

One line is ``reading,series=17 value=21.5 1795314590000``; what else a line carries differs between the two.
"""

from collections.abc import Iterable
from typing import cast

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from kernel.errors import Unavailable

MEASUREMENT = "reading"

# The client declares this constant of its enumeration as a plain str.
_MS = cast("WritePrecision", WritePrecision.MS)
_FIELD = str.maketrans({"\\": "\\\\", '"': '\\"'})


def line(series: int, tags: str, fields: str, ts_ms: int) -> str:
    """Return one line; ``tags`` is empty or begins with a comma."""
    return f"{MEASUREMENT},series={series}{tags} {fields} {ts_ms}"


def quoted(text: str) -> str:
    """Return a text as the value of a string field. Line feeds may stand in it as they are."""
    return f'"{text.translate(_FIELD)}"'


class LineWriter:
    """Sends lines and returns when the server has taken them. Times are in milliseconds."""

    def __init__(self, url: str, *, token: str = "", org: str = "-", bucket: str = "-", timeout_s: int = 30) -> None:
        self.client = InfluxDBClient(url=url, token=token, org=org, timeout=timeout_s * 1000)
        self._write_api = self.client.write_api(write_options=SYNCHRONOUS)
        self._org = org
        self._bucket = bucket

    def send(self, lines: Iterable[str]) -> None:
        """Send lines in one request.

        Raises:
            kernel.errors.Unavailable: the server did not answer, or did not take them.
        """
        body = "\n".join(lines).encode()
        if not body:
            return
        try:
            self._write_api.write(bucket=self._bucket, org=self._org, record=body, write_precision=_MS)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            raise Unavailable("The telemetry server did not take the readings: {reason}", reason=str(error)) from error

    def close(self) -> None:
        """Close the connections."""
        self._write_api.close()  # type: ignore[no-untyped-call]
        self.client.close()  # type: ignore[no-untyped-call]
