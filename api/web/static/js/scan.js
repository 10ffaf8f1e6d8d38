// Reads a label with the camera or from a photo, with the browser's own reader where it has one, else jsQR.
// A label holds an address of this site (…/q/<token>) or a bare code: the first is opened, the second typed in.
import { fetchGlobal } from "./library.js";

const LONGEST_PX = 900;
const EVERY_MS = 120;

async function reader(form) {
  if ("BarcodeDetector" in window && (await BarcodeDetector.getSupportedFormats()).includes("qr_code")) {
    const detector = new BarcodeDetector({ formats: ["qr_code"] });
    return async (source) => (await detector.detect(source))[0]?.rawValue;
  }
  const jsQR = await fetchGlobal(form, "jsQR");
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return async (source) => {
    const width = source.videoWidth || source.width;
    const height = source.videoHeight || source.height;
    const scale = Math.min(1, LONGEST_PX / Math.max(width, height, 1));
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    return jsQR(data, canvas.width, canvas.height)?.data;
  };
}

function open(form, text) {
  navigator.vibrate?.(60);
  const own = URL.canParse(text) ? new URL(text) : null;
  if (own && own.origin === location.origin && own.pathname.startsWith("/q/")) {
    location.assign(own.pathname);
    return;
  }
  form.querySelector("[data-scan-input]").value = own?.pathname.startsWith("/q/") ? own.pathname.slice(3) : text;
  form.requestSubmit();
}

export function attach(form) {
  const words = JSON.parse(form.dataset.scanWords);
  const view = form.querySelector("[data-scan-view]");
  const video = form.querySelector("[data-scan-video]");
  const state = form.querySelector("[data-scan-state]");
  const start = form.querySelector("[data-scan-start]");
  const file = form.querySelector("[data-scan-file]");
  let stream = null;
  let stopped = false;

  const stop = () => {
    stopped = true;
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    view.hidden = true;
  };
  const watch = async () => {
    stopped = false;
    state.textContent = "";
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      state.textContent = words.denied;
      return;
    }
    view.hidden = false;
    video.srcObject = stream;
    await video.play();
    const read = await reader(form);
    while (!stopped && form.isConnected) {
      const text = await read(video).catch(() => undefined);
      if (text) {
        stop();
        open(form, text);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  };
  start.addEventListener("click", watch);
  start.hidden = !navigator.mediaDevices?.getUserMedia;
  form.querySelector("[data-scan-file-label]").hidden = false;
  file.addEventListener("change", async () => {
    if (!file.files[0]) return;
    const bitmap = await createImageBitmap(file.files[0]).catch(() => null);
    const text = bitmap && (await (await reader(form))(bitmap));
    if (text) open(form, text);
    else state.textContent = words.unread;
  });
  return stop;
}
