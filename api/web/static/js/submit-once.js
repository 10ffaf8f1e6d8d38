// A form that is being sent cannot be sent a second time by an impatient thumb. The button is freed again when
// the page comes back from the browser's cache or when htmx has its answer.
export function attach(form) {
  let sending = false;
  const free = () => {
    sending = false;
    form.removeAttribute("aria-busy");
  };
  form.addEventListener("submit", (event) => {
    if (sending) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    sending = true;
    form.setAttribute("aria-busy", "true");
    // Another listener may still refuse this submission.
    queueMicrotask(() => { if (event.defaultPrevented && !form.matches("[hx-post], [hx-get]")) free(); });
  });
  form.addEventListener("htmx:finally:request", free);
  addEventListener("pageshow", free);
  return () => removeEventListener("pageshow", free);
}
