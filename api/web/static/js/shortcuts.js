// Keyboard shortcuts: data-shortcut="k" is reached by Ctrl-K (⌘K), or by "/" outside a field; Escape leaves it.
const inField = (target) => target.closest?.("input, textarea, select, [contenteditable]");

export function attach(element) {
  const onKey = (event) => {
    const asked = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === element.dataset.shortcut;
    if (!asked && !(event.key === "/" && !inField(event.target))) return;
    event.preventDefault();
    element.focus();
    element.select?.();
  };
  document.addEventListener("keydown", onKey);
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape") element.blur();
  });
  return () => document.removeEventListener("keydown", onKey);
}
