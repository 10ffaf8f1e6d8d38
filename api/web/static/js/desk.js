// The list of the alarm desk (data-desk = the address of its rows). An event names the alarm it is about, so only
// the rows of those alarms are asked for; what has not changed is not touched, and a thousand rows stay as they
// are. A change by somebody else lights up once. Further pages are fetched as the end of the list comes near.
//
// Keys: j and k move, a acknowledges, x ticks, Enter opens, / searches, ? explains. A sound for a new critical
// alarm is off until somebody switches it on in this browser, and plays only after a click or key on the page.
const MOST_NAMED = 200;
const MOST_ROWS = 1000;
const NEAR_PX = 1200;
const SOUND = "fixwright.alarm-sound";

const inField = (target) => target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable], dialog[open]");
const rowsOf = (html) => [...new DOMParser().parseFromString(html, "text/html").querySelectorAll("li.fw-alarm")];
const row = (id) => document.getElementById(`alarm-${id}`);

export function attach(list) {
  const isNewest = list.hasAttribute("data-desk-newest");
  const isLater = list.hasAttribute("data-desk-later");
  const mine = new Set();
  const sound = soundOf(document.querySelector("[data-desk-sound]"));
  const none = document.querySelector("[data-desk-none]");
  let next = document.querySelector(".fw-pages a[rel=next]");
  let isAsking = false;
  const named = { alarm: new Set(), order: new Set() };
  let isAll = false;

  const isBefore = (one, other) => {
    const ranks = isNewest ? 0 : one.dataset.rank - other.dataset.rank;
    return ranks ? ranks < 0 : Number(one.dataset.id) > Number(other.dataset.id);
  };

  function place(one) {
    let low = 0;
    let high = list.children.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(list.children[middle], one)) low = middle + 1; else high = middle;
    }
    // What belongs behind the last row stands on a page that is not here yet.
    if (low === list.children.length && next) return false;
    list.insertBefore(one, list.children[low] ?? null);
    return true;
  }

  function glow(one) {
    if (mine.delete(one.dataset.id)) return;
    one.classList.add("fw-glow");
    one.addEventListener("animationend", () => one.classList.remove("fw-glow"), { once: true });
  }

  // A row that is replaced has the browser look at all rows behind it again; one that changes, at itself alone.
  function become(known, one) {
    for (const { name } of [...known.attributes]) if (!one.hasAttribute(name)) known.removeAttribute(name);
    for (const { name, value } of [...one.attributes]) if (known.getAttribute(name) !== value) known.setAttribute(name, value);
    known.replaceChildren(...one.childNodes);
  }

  function change(known, one) {
    if (known.dataset.version === one.dataset.version) return;
    const hadFocus = known.contains(document.activeElement);
    const tick = known.querySelector("[name=ids]");
    if (tick?.checked && one.querySelector("[name=ids]")) one.querySelector("[name=ids]").checked = true;
    const isNews = known.dataset.glow !== one.dataset.glow;
    const isElsewhere = known.dataset.rank !== one.dataset.rank;
    become(known, one);
    if (isElsewhere) { known.remove(); place(known); }
    if (hadFocus) known.focus({ preventScroll: true });
    if (isNews) glow(known);
  }

  function remove(known) {
    const neighbour = known.nextElementSibling ?? known.previousElementSibling;
    const hadFocus = known.contains(document.activeElement);
    known.remove();
    if (hadFocus) neighbour?.focus({ preventScroll: true });
  }

  function merge(found, ids) {
    const there = new Set(found.map((one) => one.dataset.id));
    let isCritical = false;
    for (const one of found) {
      const known = row(one.dataset.id);
      if (known) change(known, one);
      else if (!isLater && place(one)) {
        glow(one);
        isCritical ||= one.dataset.severity === "critical" && "isNew" in one.dataset;
      }
    }
    for (const known of ids ? [...ids].map(row).filter(Boolean) : [...list.children]) {
      if (!there.has(known.dataset.id)) remove(known);
    }
    if (none) none.hidden = list.childElementCount > 0;
    if (isCritical) sound.play();
  }

  async function ask(parameters) {
    const address = list.dataset.desk;
    const answer = await fetch(`${address}${address.includes("?") ? "&" : "?"}${new URLSearchParams(parameters)}`, { headers: { "HX-Request": "true" } });
    if (!answer.ok || answer.redirected) throw new Error(`${answer.status} from ${address}`);
    return rowsOf(await answer.text());
  }

  // One request at a time: what happens meanwhile is asked for together when it is over.
  async function refresh() {
    if (isAsking) return;
    isAsking = true;
    try {
      while (isAll || named.alarm.size || named.order.size) {
        const ids = new Set(named.alarm);
        const orders = new Set(named.order);
        const all = isAll || ids.size + orders.size > MOST_NAMED;
        named.alarm.clear();
        named.order.clear();
        isAll = false;
        if (!all) {
          // An order may have left an alarm, so the rows that show it are asked for as well.
          for (const one of list.querySelectorAll(".fw-alarm-order a")) if (orders.has(one.pathname.split("/").pop())) ids.add(one.closest("li").dataset.id);
          merge(await ask({ ids: [...ids].join(","), orders: [...orders].join(",") }), ids);
        } else if (isLater) {
          const shown = [...list.children].map((one) => one.dataset.id);
          merge(await ask({ ids: shown.join(",") }), new Set(shown));
        } else {
          const most = next ? list.children.length : MOST_ROWS;
          merge(await ask({ most: Math.min(MOST_ROWS, Math.max(most, 1)) }), list.children.length > MOST_ROWS ? new Set() : null);
        }
      }
    } catch (error) {
      console.error(error);
    } finally {
      isAsking = false;
    }
  }

  function heard({ detail }) {
    const topics = detail?.topics ?? [];
    const things = topics.filter((topic) => /^(alarm|order):/.test(topic));
    if (!things.length) isAll = true;
    for (const topic of things) named[topic.slice(0, 5)].add(topic.slice(6));
    refresh();
  }

  // ── Further pages ──────────────────────────────────────────────────────────────────────────────────────────

  const foot = next?.closest(".fw-pages");
  const near = foot && new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) more(); }, { rootMargin: `${NEAR_PX}px` });
  let isFetching = false;

  function end() {
    next.remove();
    next = null;
    foot.hidden = !foot.querySelector("a");
  }

  async function more() {
    if (!next || isFetching) return;
    isFetching = true;
    try {
      const answer = await fetch(next.href);
      if (!answer.ok) throw new Error(`${answer.status} from ${next.href}`);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const one of page.querySelectorAll("#rows > li")) if (!row(one.dataset.id)) list.append(one);
      const following = page.querySelector(".fw-pages a[rel=next]");
      if (following) next.href = following.href; else end();
    } catch (error) {
      console.error(error);
      near.disconnect();
    } finally {
      isFetching = false;
    }
    // Looked at again: the end may be near still.
    if (next) { near.unobserve(foot); near.observe(foot); }
  }

  near?.observe(foot);

  // ── Keyboard ───────────────────────────────────────────────────────────────────────────────────────────────

  const current = () => document.activeElement?.closest?.("li.fw-alarm");
  const go = (one) => { one?.focus({ preventScroll: true }); one?.scrollIntoView({ block: "nearest" }); };

  async function acknowledge(one) {
    const form = one.querySelector("form[data-acknowledge]");
    if (!form) return;
    mine.add(one.dataset.id);
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "manual" });
    if (answer.type !== "opaqueredirect" && !answer.ok) { form.requestSubmit(); return; }
    named.alarm.add(one.dataset.id);
    await refresh();
  }

  const help = document.querySelector("[data-desk-keys]");
  const keys = {
    j: () => go(current()?.nextElementSibling ?? (current() ? null : list.firstElementChild)),
    k: () => go(current()?.previousElementSibling ?? (current() ? null : list.firstElementChild)),
    a: () => current() && acknowledge(current()),
    x: () => current()?.querySelector("[name=ids]")?.click(),
    "/": () => document.querySelector("[data-desk-search]")?.focus(),
    "?": () => help.showModal(),
  };

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || inField(event.target)) return;
    if (event.key === "Enter" && event.target.matches?.("li.fw-alarm")) location.assign(event.target.dataset.href);
    else if (keys[event.key]) {
      // Before the search of the whole product, which "/" reaches on every other page.
      event.preventDefault();
      event.stopImmediatePropagation();
      keys[event.key]();
    }
  }

  function submitted(event) {
    const one = event.target.closest?.("li.fw-alarm");
    if (!one || !event.target.matches("form[data-acknowledge]")) return;
    event.preventDefault();
    acknowledge(one);
  }

  const helper = document.querySelector("[data-desk-help]");
  if (helper) { helper.hidden = false; helper.addEventListener("click", keys["?"]); }
  list.addEventListener("live", heard);
  list.addEventListener("submit", submitted, true);
  window.addEventListener("keydown", pressed, true);
  return () => {
    near?.disconnect();
    window.removeEventListener("keydown", pressed, true);
  };
}

// ── Sound ────────────────────────────────────────────────────────────────────────────────────────────────────

function soundOf(button) {
  if (!button || !window.AudioContext) return { play() {} };
  const words = JSON.parse(button.dataset.words);
  let isOn = localStorage.getItem(SOUND) === "on";
  let context = null;
  const show = () => {
    button.hidden = false;
    button.setAttribute("aria-pressed", String(isOn));
    button.querySelector("span").textContent = !isOn ? words.off : context?.state === "running" ? words.on : words.waiting;
  };
  // A browser lets a page be heard only after a click or key on it; until then the button says so.
  const wake = async () => {
    if (!isOn) return;
    context ??= new AudioContext();
    await context.resume();
    show();
  };
  const beep = (at, pitch) => {
    const tone = context.createOscillator();
    const gain = context.createGain();
    tone.frequency.value = pitch;
    gain.gain.setValueAtTime(0.0001, at);
    gain.gain.exponentialRampToValueAtTime(0.25, at + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.0001, at + 0.28);
    tone.connect(gain).connect(context.destination);
    tone.start(at);
    tone.stop(at + 0.3);
  };
  const play = () => {
    button.dataset.played = String(Number(button.dataset.played ?? 0) + (isOn ? 1 : 0));
    if (!isOn || context?.state !== "running") return;
    beep(context.currentTime, 880);
    beep(context.currentTime + 0.35, 660);
  };
  button.addEventListener("click", async () => {
    isOn = !isOn;
    localStorage.setItem(SOUND, isOn ? "on" : "off");
    await wake();
    show();
    if (isOn) beep(context.currentTime, 880);
  });
  for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, () => { if (isOn && context?.state !== "running") wake(); });
  show();
  return { play };
}
