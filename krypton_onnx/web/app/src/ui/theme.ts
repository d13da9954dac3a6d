/* Light or dark: as the system has it, until the visitor chooses. */

import { element } from "./elements";

const KEY = "krypton-onnx-theme";

export function setUpTheme(): void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = element<HTMLButtonElement>("theme");
  const show = () => {
    const dark = (stored() ?? (system.matches ? "dark" : "light")) === "dark";
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${dark ? "light" : "dark"} colours`);
  };
  button.addEventListener("click", () => {
    store(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    show();
  });
  system.addEventListener("change", show);
  show();
}

// Private windows may refuse storage; the choice then holds for the page.
let chosen: string | null = null;

function stored(): string | null {
  try {
    return chosen ?? localStorage.getItem(KEY);
  } catch {
    return chosen;
  }
}

function store(theme: string): void {
  chosen = theme;
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // As above.
  }
}
