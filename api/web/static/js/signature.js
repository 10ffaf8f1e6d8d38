// A signature drawn with finger, pen or mouse; the picture goes into the hidden field as a PNG data URL.
import { fetchModule } from "./library.js";

export async function attachPad(box) {
  const { default: SignaturePad } = await fetchModule(box);
  const area = box.querySelector("[data-signature-area]");
  const canvas = area.querySelector("canvas");
  const value = box.querySelector("[data-signature-value]");
  area.hidden = false;
  const pad = new SignaturePad(canvas, { backgroundColor: "rgb(255,255,255)", penColor: "rgb(20,25,60)" });
  // The canvas has the pixels of the screen, else the stroke is blurred; a turned phone keeps what was drawn.
  const fit = () => {
    const ratio = Math.max(devicePixelRatio || 1, 1);
    const strokes = pad.toData();
    canvas.width = canvas.offsetWidth * ratio;
    canvas.height = canvas.offsetHeight * ratio;
    canvas.getContext("2d").scale(ratio, ratio);
    pad.clear();
    pad.fromData(strokes);
  };
  pad.addEventListener("endStroke", () => { value.value = pad.toDataURL("image/png"); });
  box.querySelector("[data-signature-clear]").addEventListener("click", () => {
    pad.clear();
    value.value = "";
  });
  addEventListener("resize", fit);
  fit();
  return () => {
    removeEventListener("resize", fit);
    pad.off();
  };
}

export function attach(box) {
  const ready = attachPad(box);
  return () => ready.then((detach) => detach());
}
