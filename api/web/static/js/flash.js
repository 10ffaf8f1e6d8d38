// A message leaves by itself after a while, later when it offers an undo, never while it is pointed at or is bad news.
const SHOWN_MS = 6_000;
const SHOWN_WITH_UNDO_MS = 12_000;
const LEAVING_MS = 300;

export function attach(flash) {
  if (flash.getAttribute("role") === "alert") return;
  const wait = flash.querySelector("form") ? SHOWN_WITH_UNDO_MS : SHOWN_MS;
  let timer = 0;
  const leave = () => {
    flash.classList.add("is-leaving");
    timer = setTimeout(() => flash.remove(), LEAVING_MS);
  };
  const start = () => { timer = setTimeout(leave, wait); };
  const stay = () => {
    clearTimeout(timer);
    flash.classList.remove("is-leaving");
  };
  flash.addEventListener("pointerenter", stay);
  flash.addEventListener("pointerleave", start);
  flash.addEventListener("focusin", stay);
  start();
}
