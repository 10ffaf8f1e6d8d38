// Live parts of a page. data-live="orders alarm:12" names topics, a kind of thing or one thing; when the server
// says that one of them changed, the element gets the event "live", on which its own hx-get asks for itself again:
//
//   <tbody id="rows" data-live="orders" hx-get="…" hx-select="#rows" hx-trigger="live" hx-swap="outerMorph">
//
// Within it, elements with an id and data-glow="<version>" light up once when their version is new to this page.
// There is one connection a page, closed while the page is hidden; when it is taken up again everything live is
// asked anew, because what happened meanwhile was not heard.
const QUIET_MS = 300;
const elements = new Set();
// Element → the topics that changed; none when all that happened was missed.
const dirty = new Map();
let source = null;
let listening = "";
let timer = 0;

const topicsOf = (element) => element.dataset.live.split(/\s+/).filter(Boolean);

function connect() {
  const topics = [...new Set([...elements].flatMap(topicsOf))].sort().join(",");
  if (document.hidden || !topics) {
    disconnect();
    return;
  }
  if (source && topics === listening) return;
  disconnect();
  listening = topics;
  source = new EventSource(`/live?topics=${encodeURIComponent(topics)}`);
  let wasLost = false;
  source.addEventListener("message", (event) => heard(event.data.split(/\s+/)));
  source.addEventListener("reload", () => elements.forEach((one) => mark(one)));
  source.addEventListener("error", () => { wasLost = true; });
  source.addEventListener("open", () => {
    if (wasLost) elements.forEach((one) => mark(one));
    wasLost = false;
  });
}

function disconnect() {
  source?.close();
  source = null;
  listening = "";
}

function heard(topics) {
  for (const element of elements) if (topicsOf(element).some((topic) => topics.includes(topic))) mark(element, topics);
}

// A burst of happenings costs one request: the first waits a moment for the rest. The event's detail names what
// changed, for those who can ask for less than everything; a message that names no thing means everything.
function mark(element, topics = []) {
  const known = dirty.get(element) ?? new Set();
  dirty.set(element, known);
  if (topics.some((topic) => topic.includes(":"))) topics.forEach((topic) => known.add(topic));
  else known.add("*");
  timer ||= setTimeout(() => {
    timer = 0;
    const due = [...dirty];
    dirty.clear();
    for (const [one, names] of due) {
      const detail = { topics: names.has("*") ? [] : [...names] };
      if (one.isConnected) one.dispatchEvent(new CustomEvent("live", { detail }));
    }
  }, QUIET_MS);
}

const versions = (root) => new Map([...root.querySelectorAll("[data-glow]")].map((one) => [one.id, one.dataset.glow]));

function glow(root, known) {
  for (const one of root.querySelectorAll("[data-glow]")) {
    if (known.get(one.id) === one.dataset.glow) continue;
    one.classList.add("fw-glow");
    one.addEventListener("animationend", () => one.classList.remove("fw-glow"), { once: true });
  }
}

export function attach(element) {
  elements.add(element);
  // Elements come in groups; one connection is opened for all that a page brings at once.
  queueMicrotask(connect);
  let known = null;
  element.addEventListener("live", () => { known = versions(element); });
  element.addEventListener("htmx:after:swap", () => {
    if (known) glow(document.getElementById(element.id) ?? element, known);
    known = null;
  });
  return () => {
    elements.delete(element);
    connect();
  };
}

document.addEventListener("visibilitychange", () => {
  const returned = !document.hidden && !source;
  connect();
  if (returned) elements.forEach((one) => mark(one));
});
