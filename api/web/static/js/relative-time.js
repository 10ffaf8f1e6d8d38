// Keeps "5 min ago" true while the page is open, with the phrases and the steps the server used.
const PHRASES = JSON.parse(document.querySelector('meta[name="fw-phrases"]')?.content ?? "null");
const UNITS = [["y", 31536000], ["mo", 2592000], ["d", 86400], ["h", 3600], ["min", 60]];
const shown = new Set();

function words(moment, now) {
  const seconds = (now - moment) / 1000;
  const phrases = seconds >= 0 ? PHRASES.past : PHRASES.future;
  const unit = UNITS.find(([, length]) => Math.abs(seconds) >= length);
  return unit ? phrases[unit[0]].replace("{n}", Math.floor(Math.abs(seconds) / unit[1])) : phrases.now;
}

function refresh(element) {
  const text = words(Date.parse(element.dateTime), Date.now());
  if (element.textContent !== text) element.textContent = text;
}

setInterval(() => {
  for (const element of shown) element.isConnected ? refresh(element) : shown.delete(element);
}, 20_000);

export function attach(element) {
  if (!PHRASES) return;
  shown.add(element);
  refresh(element);
}
