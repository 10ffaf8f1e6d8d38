// Shows the line "no network" while the browser says so.
export function attach(element) {
  const show = () => { element.hidden = navigator.onLine; };
  addEventListener("online", show);
  addEventListener("offline", show);
  show();
  return () => {
    removeEventListener("online", show);
    removeEventListener("offline", show);
  };
}
