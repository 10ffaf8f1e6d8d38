// Tells dispatch where a technician is, so that the nearest can be sent. Nothing is sent before the person presses
// the button once; after that the browser remembers the permission and the position is sent while the page is
// open and seen, every few minutes. Without a position dispatch works as well: unknown is not near.
const EVERY_MS = 5 * 60 * 1000;
const ASKED = { enableHighAccuracy: false, maximumAge: 60_000, timeout: 20_000 };

export function attach(box) {
  if (!navigator.geolocation || !window.isSecureContext) return undefined;
  const button = box.querySelector("button");
  let timer = 0;

  const send = ({ coords }) => {
    const csrf = JSON.parse(document.body.getAttribute("hx-headers:inherited") ?? "{}");
    const body = new URLSearchParams({ latitude: coords.latitude, longitude: coords.longitude });
    return fetch(box.dataset.position, { method: "POST", body, headers: csrf }).catch(() => undefined);
  };
  const look = () => {
    if (document.hidden) return;
    navigator.geolocation.getCurrentPosition((found) => { box.hidden = true; send(found); }, () => { box.hidden = false; }, ASKED);
  };
  const begin = () => {
    look();
    timer ||= setInterval(look, EVERY_MS);
  };

  button.addEventListener("click", begin);
  const offer = () => { box.hidden = false; };
  if (!navigator.permissions) offer();
  else navigator.permissions.query({ name: "geolocation" }).then((permission) => {
    if (permission.state === "granted") begin();
    else if (permission.state === "prompt") offer();
  }, offer);
  return () => clearInterval(timer);
}
