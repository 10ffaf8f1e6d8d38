// A <details> menu closes on Escape, on a click elsewhere and when the focus has left it.
export function attach(menu) {
  const close = () => { menu.open = false; };
  const outside = (event) => { if (menu.open && !menu.contains(event.target)) close(); };
  document.addEventListener("pointerdown", outside);
  menu.addEventListener("focusout", (event) => { if (event.relatedTarget && !menu.contains(event.relatedTarget)) close(); });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    close();
    menu.querySelector("summary").focus();
  });
  return () => document.removeEventListener("pointerdown", outside);
}
