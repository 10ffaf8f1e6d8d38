// The table of islands: which attribute brings which behaviour. A module is fetched when the first element that
// asks for it is on the page, also when htmx or another island brings the element later. Each module exports
// attach(element) and may return a function that is called when the element has left the page.
const ISLANDS = {
  "[data-relative]": "./relative-time.js",
  "[data-live]": "./live.js",
  "[data-desk]": "./desk.js",
  "[data-theme-switch]": "./theme.js",
  "[data-plot]": "./plot.js",
  "[data-map]": "./map.js",
  "[data-calendar]": "./calendar.js",
  "[data-signature]": "./signature.js",
  "[data-photos]": "./photos.js",
  "[data-scan]": "./scan.js",
  "[data-shortcut]": "./shortcuts.js",
  "[data-submit-once]": "./submit-once.js",
  "[data-autosubmit]": "./autosubmit.js",
  "[data-menu]": "./menu.js",
  "[data-flash]": "./flash.js",
  "[data-offline]": "./offline.js",
  "[data-position]": "./position.js",
  "[data-rule-editor]": "./rule-editor.js",
};

const attached = new Map(Object.keys(ISLANDS).map((selector) => [selector, new WeakSet()]));
const leaving = new Map();

function attachWithin(root) {
  for (const [selector, module] of Object.entries(ISLANDS)) {
    const found = [...root.querySelectorAll(selector)];
    if (root.matches?.(selector)) found.push(root);
    for (const element of found) attachOne(selector, module, element);
  }
}

async function attachOne(selector, module, element) {
  const seen = attached.get(selector);
  if (seen.has(element)) return;
  seen.add(element);
  try {
    const { attach } = await import(module);
    const detach = element.isConnected ? attach(element) : undefined;
    if (typeof detach === "function") leaving.set(element, [...(leaving.get(element) ?? []), detach]);
  } catch (error) {
    // One broken island must not take the others with it; the page works without any of them.
    element.dataset.failed = "";
    console.error(`island ${module} failed`, element, error);
  }
}

function detachGone() {
  for (const [element, detaches] of leaving) {
    if (element.isConnected) continue;
    leaving.delete(element);
    for (const detach of detaches) detach();
  }
}

attachWithin(document.body);
new MutationObserver((changes) => {
  let removed = false;
  for (const change of changes) {
    removed ||= change.removedNodes.length > 0;
    for (const node of change.addedNodes) if (node.nodeType === Node.ELEMENT_NODE && node.isConnected) attachWithin(node);
  }
  if (removed) detachGone();
}).observe(document.body, { childList: true, subtree: true });
