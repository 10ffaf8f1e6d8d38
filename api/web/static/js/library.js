// Fetches a vendored library once, from the address its element carries in data-lib (and data-css).
const fetched = new Map();

function once(address, load) {
  if (!fetched.has(address)) {
    const promise = load().catch((error) => {
      fetched.delete(address);
      throw error;
    });
    fetched.set(address, promise);
  }
  return fetched.get(address);
}

function insert(tag, properties) {
  return new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.addEventListener("load", () => resolve());
    element.addEventListener("error", () => reject(new Error(`could not load ${properties.src ?? properties.href}`)));
    document.head.append(element);
  });
}

// A classic script that leaves its library in a global of this name.
export async function fetchGlobal(element, name) {
  const { lib, css } = element.dataset;
  const style = css ? once(css, () => insert("link", { rel: "stylesheet", href: css })) : null;
  await Promise.all([style, window[name] ?? once(lib, () => insert("script", { src: lib }))]);
  return window[name];
}

export const fetchModule = (element) => once(element.dataset.lib, () => import(element.dataset.lib));
