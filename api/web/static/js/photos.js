// Photos before they are sent: shown small, each removable, several rounds of choosing added up, and made smaller,
// because a phone's 8 MB picture shows a broken bearing no better than 400 kB. Redrawing also drops the place
// where the picture was taken; the server does that again.
const LONGEST_PX = 1920;
const QUALITY = 0.82;

async function smaller(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return file; // A kind of picture this browser cannot draw; the server decides.
  }
  const scale = Math.min(1, LONGEST_PX / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
  if (!blob) return file;
  return new File([blob], file.name.replace(/\.[^.]+$/, "") + ".jpg", { type: "image/jpeg", lastModified: file.lastModified });
}

export function attach(box) {
  const input = box.querySelector("input[type=file]");
  const shown = box.querySelector("[data-photos-shown]");
  const most = Number(box.dataset.photosMost) || 6;
  let kept = [];
  box.classList.add("is-ready");

  const draw = () => {
    const files = new DataTransfer();
    for (const { file } of kept) files.items.add(file);
    input.files = files.files;
    shown.replaceChildren(...kept.map(tile));
  };
  const tile = (photo) => {
    const frame = Object.assign(document.createElement("span"), { className: "fw-photo" });
    const image = Object.assign(document.createElement("img"), { src: photo.url, alt: photo.file.name });
    const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
    remove.setAttribute("aria-label", box.dataset.photosRemove);
    remove.addEventListener("click", () => {
      URL.revokeObjectURL(photo.url);
      kept = kept.filter((other) => other !== photo);
      draw();
    });
    frame.append(image, remove);
    return frame;
  };
  input.addEventListener("change", async () => {
    const chosen = [...input.files].slice(0, most - kept.length);
    for (const file of await Promise.all(chosen.map(smaller))) kept.push({ file, url: URL.createObjectURL(file) });
    draw();
  });
  return () => { for (const { url } of kept) URL.revokeObjectURL(url); };
}
