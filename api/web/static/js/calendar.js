// Shows events from data-calendar in a calendar; with data-calendar-move an event may be dragged, which posts
// id, start and end (and resource) and springs back when the server refuses.
import { fetchGlobal } from "./library.js";
import { offsetNow, wallText } from "./zone.js";

const zh = document.documentElement.lang.startsWith("zh");

// Wall time as the calendar shows it, without a zone: the server reads it in the zone of the reader.
function wall(date) {
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}T${two(date.getHours())}:${two(date.getMinutes())}:00`;
}

async function ask(address, start, end) {
  const url = new URL(address, location.href);
  url.searchParams.set("start", wall(start));
  url.searchParams.set("end", wall(end));
  const answer = await fetch(url, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${answer.status} from ${url.pathname}`);
  return answer.json();
}

async function move(address, { event, newResource }) {
  const body = new FormData();
  body.set("id", event.id);
  body.set("start", wall(event.start));
  body.set("end", wall(event.end ?? event.start));
  if (newResource) body.set("resource", newResource.id);
  const csrf = JSON.parse(document.body.getAttribute("hx-headers:inherited") ?? "{}");
  const answer = await fetch(address, { method: "POST", body, headers: csrf });
  return answer.ok;
}

function tell(text) {
  const flash = Object.assign(document.createElement("div"), { className: "fw-flash fw-note-bad", textContent: text });
  flash.setAttribute("role", "alert");
  document.getElementById("flashes")?.append(flash);
  setTimeout(() => flash.remove(), 8_000);
}

const shown = ({ tone, href, resourceId, start, end, ...event }) => ({
  ...event,
  start: wallText(start),
  end: wallText(end),
  classNames: [`fw-event-${tone || "quiet"}`],
  resourceIds: resourceId ? [resourceId] : [],
  extendedProps: { href },
});

// The library marks its grid as a table without rows, which screen readers then announce as broken. Its days and
// events are read well as plain text and buttons, so the half-built roles are taken away as they appear.
function withoutTableRoles(box) {
  const roles = ["table", "list", "row", "cell", "columnheader", "rowheader", "listitem"].map((role) => `[role=${role}]`).join();
  const clean = () => {
    for (const one of box.querySelectorAll(roles)) one.removeAttribute("role");
    for (const one of box.querySelectorAll("[aria-colindex], [aria-rowindex]")) {
      one.removeAttribute("aria-colindex");
      one.removeAttribute("aria-rowindex");
    }
  };
  clean();
  new MutationObserver(clean).observe(box, { childList: true, subtree: true, attributes: true, attributeFilter: ["role", "aria-colindex"] });
}

export function attach(box) {
  const { calendar: source, calendarView: view, calendarMove: mover, calendarViews: views, calendarResources: resources } = box.dataset;
  const words = JSON.parse(box.dataset.calendarWords);
  let calendar = null;
  let library = null;
  const moved = async (info) => {
    if (await move(mover, info).catch(() => false)) return;
    info.revert();
    tell(words.refused);
  };
  const start = async () => {
    library = await fetchGlobal(box, "EventCalendar");
    const rows = resources ? await (await fetch(resources)).json() : [];
    if (!box.isConnected) return;
    box.replaceChildren();
    const narrow = box.clientWidth < 560;
    calendar = library.create(box, {
      view: narrow && view.startsWith("dayGrid") ? "listMonth" : view,
      headerToolbar: { start: "prev,next today", center: "title", end: views },
      buttonText: (own) => ({ ...own, ...words }),
      noEventsContent: words.none,
      moreLinkContent: ({ num }) => words.more.replace("{n}", num),
      locale: zh ? "zh-CN" : "en-GB",
      timeZone: offsetNow(), // Decides which day is today; events come as wall time.
      firstDay: 1,
      height: narrow ? undefined : "46rem", // Without it every week grows as tall as the busiest day.
      dayMaxEvents: true,
      nowIndicator: true,
      resources: rows,
      editable: Boolean(mover),
      eventSources: [{ events: async ({ start: from, end: to }) => (await ask(source, from, to)).map(shown) }],
      eventClick: ({ event }) => event.extendedProps.href && location.assign(event.extendedProps.href),
      eventDrop: moved,
      eventResize: moved,
    });
    withoutTableRoles(box);
  };
  start().catch((error) => console.error(error));
  box.addEventListener("live", () => calendar?.refetchEvents());
  return () => calendar && library.destroy(calendar);
}
