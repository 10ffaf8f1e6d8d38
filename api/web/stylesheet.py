"""Which of Tabler's rules a phone is sent: the parts that technicians' and visitors' pages are built from.

A desk is sent all but those that slow every page and that no page uses (``quiet``).

Tabler's full sheet weighs 635 kB (79 kB compressed), a third of what a first visit over a slow network may cost
in all. The phone and public layouts load a copy without the parts named nowhere in ``KEPT``. The list names
components, not what today's templates happen to use, so that a new page looks right without a new build.
Uses the standard library alone, because it runs at set-up.
"""

import re
from collections.abc import Iterator

KEPT = re.compile(
    r"""^(
        btn(-(primary|secondary|danger|link|sm|lg|icon|list|close|group|outline-primary|outline-danger))?
      | card(-(header|title|subtitle|body|footer|actions|link|table|sm))?
      | form-(label|control|select|check|check-input|check-label|check-inline|hint|switch|control-sm|select-sm)
      | input-group(-text|-sm)? | required | is-invalid | invalid-feedback | was-validated
      | badge | alert(-(title|link|success|info|warning|danger|icon|description|heading))?
      | list-group(-(item|flush|item-action))? | list-(unstyled|inline|inline-item)
      | avatar(-(xs|sm|md|lg|rounded))? | empty(-(icon|img|header|title|subtitle|action))?
      | placeholder(-glow|-xs|-sm|-lg)? | progress(-bar|-sm)? | spinner-border(-sm)?
      | dropdown(-(menu|item|divider|header))? | page-(title|pretitle)
      | table(-(responsive|vcenter|sm|hover))? | img-fluid | icon | kbd | lead | small | hr-text
      | row | col(-(auto|\d+))? | container(-tight)? | g[xy]?-\d | visually-hidden(-focusable)? | stretched-link
      | m[tbsexy]?-(auto|\d) | p[tbsexy]?-\d | gap-\d
      | d-(none|block|inline|inline-block|flex|inline-flex|grid|print-none)
      | flex-(fill|row|column|wrap|nowrap|grow-\d|shrink-\d) | (justify-content|align-items|align-self)-\w+
      | text-(secondary|body|reset|danger|success|warning|start|center|end)
      | text-(nowrap|truncate|wrap|break|decoration-none|uppercase)
      | fw-(bold|semibold|medium|normal) | fs-\d | h[1-6] | lh-(1|sm|base)
      | w-(100|auto|50|25) | h-(100|auto) | rounded(-circle|-pill)? | border(-(top|bottom|0))?
      | overflow-(hidden|auto) | position-(relative|absolute|sticky) | top-0 | bottom-0 | start-0 | end-0
      | active | disabled | show | first | last
    )$""",
    re.VERBOSE,
)
"""A selector stays when every class in it is one of these; a selector without a class stays always."""

FOLDING = re.compile(r"navbar-folded|data-bs-sidebar|sidebar-folded|data-bs-navbar-position")
WIDE = re.compile(r"min-width:\s*(?:992|1200|1400)px")
_CLASS = re.compile(r"\.((?:\\.|[\w-])+)")
_NOT = re.compile(r":not\([^()]*\)")
_TOKEN = re.compile(r"(--[\w-]+):[^;{}]*;?")
_USE = re.compile(r"var\((--[\w-]+)")


def quiet(sheet: str) -> str:
    """Return a minified sheet without the sidebar that folds and moves, which the product has not.

    Its selectors ask what elements hold (``:has``), so a browser would look at all elements of a page anew whenever
    one is added: 25 ms for an alarm among a thousand on the alarm desk, 11 without.
    """
    banner = re.search(r"/\*!.*?\*/", sheet, re.DOTALL)
    return (banner[0] + "\n" if banner else "") + "".join(_unfolded(sheet))


def _unfolded(sheet: str) -> Iterator[str]:
    for prelude, body in rules(sheet):
        if body is None:
            yield prelude
        elif prelude.startswith(("@media", "@supports", "@layer")):
            yield f"{prelude}{{{''.join(_unfolded(body))}}}"
        elif prelude.startswith("@"):
            yield f"{prelude}{{{body}}}"
        elif selectors := [one for one in _selectors(prelude) if not FOLDING.search(one)]:
            yield f"{','.join(selectors)}{{{body}}}"


def light(sheet: str) -> str:
    """Return the rules of a minified sheet that phones and visitors need, in their order.

    Rules for screens of 992 px and more go, as do keyframes and tokens that nothing left refers to. The
    banner at the head stays, because it names the authors and their licence.
    """
    banner = re.search(r"/\*!.*?\*/", sheet, re.DOTALL)
    kept = "".join(_kept(sheet))
    playing = {
        word for value in re.findall(r"animation(?:-name)?:([^;}]*)", kept) for word in re.findall(r"[\w-]+", value)
    }
    kept = re.sub(
        r"@keyframes ([\w-]+)\{(?:[^{}]*\{[^{}]*\})*\}",
        lambda found: found[0] if found[1] in playing else "",
        kept,
    )
    return (banner[0] + "\n" if banner else "") + _without_idle_tokens(kept)


def _without_idle_tokens(sheet: str) -> str:
    """Drop custom properties nobody reads; each pass frees those that only the dropped ones read."""
    slimmer = _only_used(sheet)
    while slimmer != sheet:
        sheet, slimmer = slimmer, _only_used(slimmer)
    return sheet


def _only_used(sheet: str) -> str:
    used = set(_USE.findall(sheet))
    return _TOKEN.sub(lambda found: found[0] if found[1] in used else "", sheet)


def _kept(sheet: str) -> Iterator[str]:
    for prelude, body in rules(sheet):
        if body is None:
            yield prelude
        elif prelude.startswith(("@media", "@supports", "@layer")):
            inner = "" if WIDE.search(prelude) else "".join(_kept(body))
            if inner:
                yield f"{prelude}{{{inner}}}"
        elif prelude.startswith("@"):
            yield f"{prelude}{{{body}}}"
        else:
            selectors = [one for one in _selectors(prelude) if _stays(one)]
            if selectors:
                yield f"{','.join(selectors)}{{{body}}}"


def rules(sheet: str) -> Iterator[tuple[str, str | None]]:
    """Yield each top-level rule as (prelude, body); a statement such as ``@charset`` has no body."""
    start = 0
    while start < len(sheet):
        stop = _next(sheet, start, "{;")
        if stop >= len(sheet):
            return
        if sheet[stop] == ";":
            yield _without_comments(sheet[start : stop + 1]), None
            start = stop + 1
            continue
        depth, end = 1, stop + 1
        while depth:
            end = _next(sheet, end, "{}")
            depth += 1 if sheet[end] == "{" else -1
            end += 1
        yield _without_comments(sheet[start:stop]), sheet[stop + 1 : end - 1]
        start = end


def _next(sheet: str, start: int, wanted: str) -> int:
    """Return where one of the wanted characters stands next, outside strings, comments and parentheses."""
    position, depth = start, 0
    while position < len(sheet):
        character = sheet[position]
        if character in "\"'":
            position = _end_of_string(sheet, position)
        elif sheet.startswith("/*", position):
            position = sheet.index("*/", position) + 1
        elif character == "\\":
            position += 1
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character in wanted and not depth:
            return position
        position += 1
    return len(sheet)


def _end_of_string(sheet: str, start: int) -> int:
    position = start + 1
    while sheet[position] != sheet[start]:
        position += 2 if sheet[position] == "\\" else 1
    return position


def _without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).strip()


def _selectors(prelude: str) -> Iterator[str]:
    start = 0
    while start < len(prelude):
        stop = _next(prelude, start, ",")
        yield prelude[start:stop].strip()
        start = stop + 1


def _stays(selector: str) -> bool:
    return "[data-vc" not in selector and all(KEPT.match(name) for name in _CLASS.findall(_NOT.sub("", selector)))
