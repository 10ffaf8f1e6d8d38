"""Where readings are kept: what every store promises, and which one an address means.

For ``ingest`` (writes), ``rules`` and ``maintenance`` (reads) and the pages. Three stores exist: the embedded
DuckDB file, VictoriaMetrics, and InfluxDB 2. What differs between them stands in their modules.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from kernel.errors import Misconfigured
from telemetry.budget import MEMORY_MB
from telemetry.readings import Buckets, Int64s, Latest, Readings, Written
from telemetry.retention import Policy


class TelemetryStore(Protocol):
    """A keeper of readings. Every method may be called from any thread; writes are taken one at a time."""

    keeps_text: bool
    """False where texts cannot be stored: such readings must be rejected before they come here."""
    counts_duplicates: bool
    """False where ``Written`` may count a row that the store held already as stored."""
    can_expire: bool
    """False where the server forgets by its own setting, and ``expire`` and ``keep`` refuse."""
    has_tiers: bool
    """False where there are no minutes and hours that outlive exact readings, and no lifetimes by series."""

    def write(self, readings: Readings) -> Written:
        """Store a batch; durable when it returns, to the degree the store's module states.

        A reading is keyed by (series, ts_ms): the same again changes nothing, a different value, text or
        flags for the same key replaces the first. Rows of one batch apply in their order.

        Raises:
            kernel.errors.Unavailable: the store did not take it; nothing of it may be acknowledged, and
                writing it again is harmless.
        """

    def latest(self, series: Sequence[int]) -> dict[int, Latest]:
        """Return the newest reading by device time of each series that has one. Late data never moves it back."""

    def newest(self, series: Int64s) -> Readings:
        """Return the same as columns, for those who ask for a million; series that have none are left out."""

    def samples(self, series: int, start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return readings of one series with start <= ts < end, oldest first, at most ``limit`` (1 … 1,000,000).

        Raises:
            ValueError: the range is empty, reversed or longer than a century, or the limit is out of bounds.
        """

    def readings(self, series: Sequence[int], start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return the exact readings of several series with start <= ts < end, by series and time.

        Raises:
            ValueError: the range is bad, or it holds more than ``limit`` (1 … 2,000,000): then narrow it.
        """

    def not_good(self, series: Sequence[int], start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return the exact readings of several series that are bad or uncertain, by series and time.

        At most ``limit`` (1 … 1,000,000), where there are more the first of them.

        Raises:
            ValueError: the range is empty, reversed or longer than a century, or the limit is out of bounds.
        """

    def range(
        self,
        series: Sequence[int],
        start_ms: int,
        end_ms: int,
        *,
        points: int | None = None,
        step_ms: int | None = None,
    ) -> Buckets:
        """Return equally wide buckets over start <= ts < end, ``points`` of them or ``step_ms`` wide.

        Bad readings are in no bucket.

        Raises:
            ValueError: the range is bad, neither or both of points and step_ms are given, or too many buckets.
        """

    def aggregate(self, series: Sequence[int], edges_ms: Int64s) -> Buckets:
        """Return the buckets between given edges, as from ``telemetry.buckets.calendar``.

        Raises:
            ValueError: the edges do not rise, span more than a century, or are too many.
        """

    def compact(self) -> bool:
        """Do one bounded step (seconds) of the store's housekeeping, beside writes; True while more is due."""

    def expire(self, before_ms: int) -> None:
        """Forget readings older than an instant. Latest values stay where the store's module does not say otherwise.

        Raises:
            kernel.errors.Misconfigured: the store cannot; see ``can_expire``.
        """

    def keep(self, policy: Policy) -> None:
        """Forget what a policy allows, beside writes. A store without tiers or series apart forgets less, never more.

        Raises:
            kernel.errors.Misconfigured: the store cannot forget; see ``can_expire``.
        """

    def close(self) -> None:
        """Release files and connections; nothing written is lost without it."""


def open_store(url: str | None, data_dir: Path, *, memory_mb: int = MEMORY_MB) -> TelemetryStore:
    """Return the store an address means: None is the file ``telemetry.duckdb`` in ``data_dir``.

    That one takes no more memory for its tables than ``memory_mb``; a server has settings of its own.

    ``victoria://host:port`` (``victorias`` over TLS) or ``influx://token@host:port/org/bucket`` (``influxs``).

    Raises:
        kernel.errors.Misconfigured: no such kind of store, a part of the address is missing, or the file is
            already open elsewhere.
        kernel.errors.Unavailable: the server does not answer.
    """
    if url is None:
        from telemetry.duckdb import DuckDbStore

        return DuckDbStore(data_dir / "telemetry.duckdb", memory_mb=memory_mb)
    parts = urlsplit(url)
    if parts.scheme in ("victoria", "victorias"):
        from telemetry.victoria import VictoriaStore

        return VictoriaStore(_http(parts))
    if parts.scheme in ("influx", "influxs"):
        from telemetry.influx import InfluxStore

        org, bucket = _org_and_bucket(parts)
        return InfluxStore(_http(parts), token=unquote(parts.username or ""), org=org, bucket=bucket)
    raise Misconfigured(
        "FIXWRIGHT_TELEMETRY_URL must begin with influx:// or victoria://, or be empty for the embedded store;"
        " it begins with {scheme}://.",
        scheme=parts.scheme or "nothing",
    )


def _http(parts: SplitResult) -> str:
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Misconfigured("The port in FIXWRIGHT_TELEMETRY_URL is no port number.") from error
    if not host or port is None:
        raise Misconfigured("FIXWRIGHT_TELEMETRY_URL must name host and port, as in victoria://localhost:8428.")
    bracketed = f"[{host}]" if ":" in host else host
    return f"{'https' if parts.scheme.endswith('s') else 'http'}://{bracketed}:{port}"


def _org_and_bucket(parts: SplitResult) -> tuple[str, str]:
    names = [unquote(name) for name in parts.path.strip("/").split("/") if name]
    if len(names) != 2 or not parts.username:  # noqa: PLR2004 - organisation and bucket
        raise Misconfigured("FIXWRIGHT_TELEMETRY_URL must read influx://token@host:port/org/bucket.")
    return names[0], names[1]
