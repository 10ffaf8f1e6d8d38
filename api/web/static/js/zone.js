// Times are shown in the zone of the account (data-zone on the page), whatever zone the browser is in, so that
// two colleagues who look at the same curve speak of the same hour. Pages of strangers have the browser's zone.
const MINUTE_MS = 60_000;

const zone = document.documentElement.dataset.zone || undefined;
const clock = new Intl.DateTimeFormat("en-GB", {
  timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric",
});
const offsets = new Map();

// How far the clocks of the zone are ahead of UTC at an instant, in milliseconds. Zones change on full quarter
// hours of UTC, so one answer holds for a quarter of an hour.
export function offsetAt(instant) {
  const quarter = Math.floor(instant / (15 * MINUTE_MS));
  if (!offsets.has(quarter)) {
    const part = Object.fromEntries(clock.formatToParts(new Date(quarter * 15 * MINUTE_MS)).map(({ type, value }) => [type, Number(value)]));
    const wall = Date.UTC(part.year, part.month - 1, part.day, part.hour, part.minute, part.second);
    offsets.set(quarter, wall - quarter * 15 * MINUTE_MS);
  }
  return offsets.get(quarter);
}

// What the clock on the wall shows, as milliseconds that read rightly when taken for UTC.
export const toWall = (instant) => instant + offsetAt(instant);

// The instant at which the wall shows this. Of an hour that comes twice, the second one.
export const fromWall = (wall) => wall - offsetAt(wall - offsetAt(wall));

// The offset of this moment as "+08:00".
export function offsetNow() {
  const minutes = Math.round(offsetAt(Date.now()) / MINUTE_MS);
  const two = (number) => String(number).padStart(2, "0");
  return `${minutes < 0 ? "-" : "+"}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
}

// "2026-11-22T08:00:00+08:00" as the wall shows it, "2026-11-22T08:00:00"; what names no offset stays as it is.
export function wallText(text) {
  if (!/T.*(Z|[+-]\d\d:?\d\d)$/.test(text ?? "")) return text;
  return new Date(toWall(Date.parse(text))).toISOString().slice(0, 19);
}
