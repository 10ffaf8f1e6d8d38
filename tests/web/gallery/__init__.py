"""A gallery of every macro on the three layouts, with data as it looks in use, served on loopback under the
content policy of the product. For the tests of the look, and for whoever changes it:

    python -m tests.web.gallery        # prints the address; desk, phone and public, ?lang=zh, ?theme=dark
"""

import json
import math
import mimetypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, urlsplit

import jinja2

from api.web import assets, display
from kernel import i18n

FOLDER = Path(__file__).parent
NOW = datetime.now(UTC)
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
PLACES = (
    ("now", "Now", "现在", "/", "home"),
    ("alarms", "Alarms", "告警", "/alarms", "bell"),
    ("orders", "Orders", "工单", "/desk", "clipboard-list"),
    ("assets", "Assets", "设备", "/assets", "building-factory-2"),
    ("plans", "Plan", "计划", "/plans", "calendar-event"),
    ("parts", "Parts", "备件", "/parts", "packages"),
    ("reports", "Reports", "报表", "/reports", "report-analytics"),
    ("settings", "Settings", "设置", "/settings", "settings"),
)
ALARMS = (
    ("critical", "Screw compressor 3", "3 号螺杆空压机", "A-00031", 108.4, 105, "°C", 3, "working"),
    ("major", "Chilled water pump 1", "1 号冷冻水泵", "A-00102", 11.82, 7.1, "mm/s", 47, "assigned"),
    ("minor", "Cold store, north", "北冷库", "A-00417", -14.6, -18, "°C", 190, None),
    ("warning", "Ultrasonic flow meter, line 4", "四号线超声波流量计", "A-00550", 0.0021, 0.005, "m³/h", 2_880, None),
    ("info", "Gateway Hall 2", "二号车间网关", "D-00007", 3, 5, "%", 20_000, "done"),
)


def page(name: str, language: str, theme: str, *, version: int = 1) -> str:
    """Return one layout of the gallery as HTML; ``version`` is that of the first alarm's row."""
    is_zh = language == "zh"
    token = i18n.language.set(language)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([assets.HERE / "templates", FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    display.install(environment)
    environment.globals["asset_url"] = assets.url

    def place(key: str, en: str, zh: str, href: str, icon: str) -> dict[str, object]:
        return {"key": key, "label": zh if is_zh else en, "href": href, "icon": icon, "count": {"alarms": 7}.get(key)}

    try:
        return environment.get_template(f"{name}.html").render(
            lang=language,
            theme=theme,
            path=f"/{name}",
            query=[("lang", language), ("theme", theme)],
            viewer={"name": "陈静" if is_zh else "Chen Jing", "zone": "Asia/Shanghai", "role": "Dispatcher"},
            zone="Asia/Shanghai",
            now=NOW,
            company="申江设备服务" if is_zh else "Shenjiang Services",
            rail=[place(*entry) for entry in PLACES],
            notices=2,
            csrf_token="t0k3n",
            flashes=[{"text": "已派给李伟" if is_zh else "Given to Li Wei", "kind": "good", "undo": "/undo"}],
            say=lambda en, zh: zh if is_zh else en,
            t=lambda minutes: NOW - timedelta(minutes=minutes),
            rows=[
                {"id": number, "severity": severity, "asset": zh if is_zh else en, "code": code, "value": value,
                 "limit": limit, "unit": unit, "ago": ago, "order": order, "version": version if number == 1 else 1}
                for number, (severity, en, zh, code, value, limit, unit, ago, order) in enumerate(ALARMS, 1)
            ],
        )  # fmt: skip
    finally:
        i18n.language.reset(token)


def curve(query: dict[str, str]) -> dict[str, object]:
    """Return six hours of a temperature that rises over its limit, with a gap."""
    end = int(NOW.timestamp() * 1000)
    start = int(query.get("from", end - 6 * 3_600_000))
    stop = min(int(query.get("to", end)), end)
    step = max(1, (stop - start) // int(query.get("points", "600")))
    moments = range(start, stop, step)
    points = [[at, None if 0.3 < (at / 3_600_000) % 6 < 0.5 else 88 + 18 * math.sin(at / 5_000_000)] for at in moments]
    load = [[at, 40 + 20 * ((at // 1_800_000) % 3)] for at in moments]
    span = {"from": end - 7_000_000, "to": end - 3_000_000}
    return {
        "from": start,
        "to": stop,
        "series": [
            {"name": "Air end", "unit": "°C", "kind": "line", "points": points},
            {"name": "Load", "unit": "%", "kind": "step", "points": load},
        ],
        "limits": [
            {"label": "105 °C critical", "value": 105, "severity": "critical"},
            {"label": "98 °C major", "value": 98, "severity": "major"},
        ],
        "marks": [
            {**span, "label": "Alarm", "severity": "critical", "href": "/alarms/1"},
            {"from": end - 2_500_000, "to": None, "label": "WO-418", "severity": "info", "href": "/orders/418"},
        ],
    }


def points() -> dict[str, object]:
    """Return people, orders and a route as GeoJSON."""
    spots = (
        ("Li Wei", "person", None, 120.62, 31.31),
        ("WO-2026-00418", "order", "critical", 120.66, 31.33),
        ("WO-2026-00420", "order", "minor", 120.58, 31.28),
        ("Suzhou works", "site", None, 120.64, 31.30),
    )
    features: list[dict[str, object]] = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [x, y]},
         "properties": {"id": title, "title": title, "text": kind, "href": "#", "severity": severity, "kind": kind}}
        for title, kind, severity, x, y in spots
    ]  # fmt: skip
    route = {"type": "LineString", "coordinates": [[120.62, 31.31], [120.64, 31.30], [120.66, 31.33]]}
    features.append({"type": "Feature", "geometry": route, "properties": {}})
    return {"type": "FeatureCollection", "features": features}


def events(query: dict[str, str]) -> list[dict[str, object]]:
    """Return some planned work within the month asked for."""
    first = datetime.fromisoformat(query["start"])
    tones = ("busy", "open", "good", "waiting", "bad", "quiet")
    starts = [(number, first + timedelta(days=3 * number, hours=9)) for number in range(1, 11)]
    return [
        {
            "id": str(number),
            "title": f"PM-{number:03} Oil change",
            "start": start.isoformat(),
            "end": (start + timedelta(hours=2)).isoformat(),
            "tone": tones[number % 6],
            "href": "#",
            "editable": True,
        }
        for number, start in starts
    ]


class _Gallery(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    posted: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query))
        if address.path.startswith("/static/"):
            self._file(address.path.split("/", 3)[3])
        elif address.path in {"/plot.json", "/map.json", "/calendar.json"}:
            answer = {"/plot.json": lambda: curve(query), "/map.json": points, "/calendar.json": lambda: events(query)}
            self._send(json.dumps(answer[address.path]()).encode(), "application/json")
        elif address.path == "/live":
            # One change is told, then the connection ends and is not taken up again within a test.
            self._send(b"retry: 600000\ndata: alarms alarm:1\n\n", "text/event-stream")
        elif address.path.strip("/") in {"desk", "phone", "public"}:
            version = 2 if self.headers.get("HX-Request") else 1
            text = page(address.path.strip("/"), query.get("lang", "en"), query.get("theme", "light"), version=version)
            self._send(text.encode(), "text/html; charset=utf-8")
        elif address.path == "/scan":
            self._send(b"found", "text/plain")
        else:
            self._send(b"nothing here", "text/plain", 404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.posted.append(self.path)
        self._send(b"", "text/plain", 204)

    def _file(self, name: str) -> None:
        path = (assets.STATIC / name).resolve()
        if not path.is_relative_to(assets.STATIC) or not path.is_file():
            self._send(b"nothing here", "text/plain", 404)
            return
        self._send(path.read_bytes(), mimetypes.guess_type(name)[0] or "application/octet-stream")

    def _send(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name the base class gives it
        """Say nothing: a test's output is its own."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Let a browser hang up in the middle of an answer; anything else is told as usual."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type] - as the base class takes them


def posted() -> list[str]:
    """Return the addresses that forms were sent to since the gallery was last opened, in order."""
    return list(_Gallery.posted)


@contextmanager
def serving() -> Iterator[str]:
    """Serve the gallery on a free loopback port for the length of the block; yield its address."""
    _Gallery.posted.clear()
    server = _Server(("127.0.0.1", 0), _Gallery)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
