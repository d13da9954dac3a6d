/* Elements of the page. */

/** The element of an id, which index.html has. */
export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no element "${id}"`);
  return found as T;
}

/** A new element with properties and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Rows of a list of terms and what is said of them. */
export function fillTerms(list: HTMLElement, rows: readonly (readonly [string, string])[]): void {
  list.replaceChildren(...rows.map(([term, text]) => make("div", {}, make("dt", {}, term), make("dd", {}, text))));
}

/** Tells screen readers, when they have said all else. */
export function announce(text: string): void {
  element("live").textContent = text;
}

/** One line above all else; nothing takes it away. */
export function showError(text: string): void {
  const error = element("error");
  error.textContent = text;
  error.hidden = text === "";
}
