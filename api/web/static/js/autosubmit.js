// Filters apply as soon as one is chosen; a text waits for a pause in typing. The button serves without this.
const PAUSE_MS = 500;

export function attach(form) {
  const button = form.querySelector("[data-autosubmit-button]");
  if (button) button.hidden = true;
  let timer = 0;
  const send = () => {
    for (const input of form.elements) if (input.name && !input.value) input.disabled = true;
    form.requestSubmit();
    for (const input of form.elements) input.disabled = false;
  };
  form.addEventListener("change", (event) => {
    if (event.target.matches("select, [type=checkbox], [type=radio], [type=date]")) send();
  });
  form.addEventListener("input", (event) => {
    if (!event.target.matches("[type=search], [type=text]")) return;
    clearTimeout(timer);
    timer = setTimeout(send, PAUSE_MS);
  });
}
