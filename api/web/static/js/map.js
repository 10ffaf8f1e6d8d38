// Draws GeoJSON on a map (data-map = its address). Tiles are optional: without them, or without network, the
// points stand on a plain grid in their true positions, which is enough to see who is near what.
//
// Point properties: { id, title, text, href, severity|null, kind: asset|order|person|site }; a LineString is a route.
import { fetchGlobal } from "./library.js";

const CLOSEST_ZOOM = 15;
const GLYPHS = { asset: "engine", order: "clipboard-list", person: "user", site: "building" };
const SHAPES = {
  critical: "M6 .4 11.6 6 6 11.6.4 6z",
  major: "M6 1 11.7 11H.3z",
  minor: "M1 6a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
  warning: "M.5 3.8h11v4.4H.5z",
  info: "M3 6a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z",
};
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function pin(properties, icons) {
  const box = Object.assign(document.createElement("span"), { className: "fw-map-pin" });
  const shape = SHAPES[properties.severity];
  box.append(shape
    ? svg("svg", { class: `fw-shape fw-${properties.severity}`, viewBox: "0 0 12 12" }, svg("path", { d: shape }))
    : svg("svg", { class: "icon" }, svg("use", { href: `${icons}#${GLYPHS[properties.kind] ?? "map-pin"}` })));
  return box;
}

function bubble({ title, text, href }) {
  const box = document.createElement("div");
  const head = Object.assign(document.createElement(href ? "a" : "b"), { textContent: title });
  if (href) head.href = href;
  box.append(head);
  if (text) box.append(Object.assign(document.createElement("div"), { textContent: text, className: "text-secondary" }));
  return box;
}

function ground(L, tiles) {
  if (tiles) return L.tileLayer(tiles, { maxZoom: 19 });
  const Grid = L.GridLayer.extend({
    createTile: () => Object.assign(document.createElement("div"), { className: "fw-map-tile" }),
  });
  return new Grid();
}

async function draw(L, map, box, points) {
  const answer = await fetch(box.dataset.map, { headers: { Accept: "application/geo+json, application/json" } });
  if (!answer.ok) throw new Error(`${answer.status} from ${box.dataset.map}`);
  const collection = await answer.json();
  points.clearLayers();
  points.addData(collection);
  return collection.features.length;
}

export function attach(box) {
  const words = JSON.parse(box.dataset.mapWords);
  let map = null;
  const say = (text) => {
    box.querySelector(".fw-plot-word")?.remove();
    if (text) box.append(Object.assign(document.createElement("div"), { className: "fw-plot-word", textContent: text }));
  };
  const start = async () => {
    const L = await fetchGlobal(box, "L");
    if (!box.isConnected) return;
    box.replaceChildren();
    box.classList.add("is-ready");
    box.classList.toggle("has-tiles", Boolean(box.dataset.mapTiles));
    map = L.map(box, { zoomControl: false, attributionControl: Boolean(box.dataset.mapTiles), worldCopyJump: true });
    map.attributionControl?.setPrefix(false);
    L.control.zoom({ zoomInTitle: words.in, zoomOutTitle: words.out }).addTo(map);
    L.control.scale({ imperial: false }).addTo(map);
    ground(L, box.dataset.mapTiles).addTo(map);
    const points = L.geoJSON(null, {
      pointToLayer: ({ properties }, position) => L.marker(position, {
        title: properties.title, alt: properties.title,
        icon: L.divIcon({ className: "", html: pin(properties, box.dataset.icons), iconSize: [28, 28] }),
      }),
      style: { weight: 3, color: getComputedStyle(box).color, opacity: 0.6 },
      onEachFeature: ({ properties }, layer) => properties?.title && layer.bindPopup(() => bubble(properties)),
    }).addTo(map);
    const refresh = async (fit) => {
      try {
        const count = await draw(L, map, box, points);
        say(count ? "" : words.empty);
        if (fit) count ? map.fitBounds(points.getBounds(), { maxZoom: CLOSEST_ZOOM, padding: [32, 32] }) : map.setView([0, 0], 2);
      } catch (error) {
        console.error(error);
        say(words.failed);
      }
    };
    map.setView([0, 0], 2);
    await refresh(true);
    box.addEventListener("live", () => refresh(false));
  };
  start().catch((error) => console.error(error));
  return () => map?.remove();
}
