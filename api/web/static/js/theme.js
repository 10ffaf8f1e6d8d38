// Switches light and dark at once and remembers it; without this module the same link asks the server to.
const YEAR_S = 31536000;

export function attach(link) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const root = document.documentElement;
    const chosen = root.dataset.bsTheme === "dark" ? "light" : "dark";
    root.dataset.bsTheme = chosen;
    root.dataset.themeChoice = chosen;
    document.cookie = `theme=${chosen}; path=/; max-age=${YEAR_S}; samesite=lax`;
    document.dispatchEvent(new CustomEvent("theme", { detail: chosen }));
  });
}
