// Decides light or dark before the first paint, so that no page flashes. Loaded in the head, not as a module,
// because a module would run after the page is drawn. "auto" follows the machine.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    if (root.dataset.themeChoice === "auto") root.dataset.bsTheme = dark.matches ? "dark" : "light";
  };
  follow();
  dark.addEventListener("change", follow);
})();
