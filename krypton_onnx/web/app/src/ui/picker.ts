/* A box to search a class by its name or number: the combobox of the WAI-ARIA practices, with a list below. */

import { make } from "./elements";

const MOST = 60; // options shown at once

export class ClassPicker {
  private readonly input: HTMLInputElement;
  private readonly list: HTMLUListElement;
  private shown: number[] = [];
  private active = -1;
  private value = 0;

  /** names : one a class. order : class ids, the likeliest first. */
  constructor(
    place: HTMLElement,
    private readonly id: string,
    private readonly names: readonly string[],
    private readonly order: () => readonly number[],
    private readonly chosen: (target: number) => void,
  ) {
    this.input = make("input", { id: `${id}-input`, autocomplete: "off", spellcheck: false });
    this.list = make("ul", { id: `${id}-list`, hidden: true });
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "Classes");
    for (const [name, value] of Object.entries({
      role: "combobox",
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": this.list.id,
    }))
      this.input.setAttribute(name, value);
    place.replaceChildren(this.input, this.list);
    this.input.addEventListener("focus", () => this.input.select());
    this.input.addEventListener("click", () => this.open(""));
    this.input.addEventListener("input", () => this.open(this.input.value));
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.input.addEventListener("blur", () => this.close());
    this.list.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the focus in the box
    this.list.addEventListener("click", (event) => {
      const option = (event.target as Element).closest<HTMLElement>("[data-class]");
      if (option !== null) this.take(Number(option.dataset.class));
    });
  }

  show(target: number): void {
    this.value = target;
    if (this.list.hidden) this.input.value = this.names[target];
  }

  private key(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      if (this.list.hidden) this.open("");
      else this.activate((this.active + step + this.shown.length) % Math.max(1, this.shown.length));
    } else if (event.key === "Enter" && !this.list.hidden && this.active >= 0) {
      this.take(this.shown[this.active]);
    } else if (event.key === "Escape" && !this.list.hidden) {
      this.close();
    } else return;
    event.preventDefault();
  }

  private open(search: string): void {
    this.shown = matching(this.names, this.order(), search).slice(0, MOST);
    const options = this.shown.map((target, place) => {
      const option = make("li", { id: `${this.id}-option-${place}` }, make("span", {}, this.names[target]));
      option.append(make("span", { className: "quiet" }, String(target)));
      option.dataset.class = String(target);
      option.setAttribute("role", "option");
      return option;
    });
    const none = make("li", { className: "quiet" }, "No class of that name");
    none.setAttribute("role", "option");
    none.setAttribute("aria-disabled", "true");
    this.list.replaceChildren(...(options.length > 0 ? options : [none]));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.activate(search === "" ? this.shown.indexOf(this.value) : 0);
  }

  private activate(place: number): void {
    this.active = place < this.shown.length ? place : -1;
    [...this.list.children].forEach((option, n) => option.setAttribute("aria-selected", String(n === this.active)));
    if (this.active < 0) {
      this.input.removeAttribute("aria-activedescendant");
      return;
    }
    this.input.setAttribute("aria-activedescendant", `${this.id}-option-${this.active}`);
    this.list.children[this.active]?.scrollIntoView({ block: "nearest" });
  }

  private take(target: number): void {
    this.value = target;
    this.close();
    this.chosen(target);
  }

  private close(): void {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.input.value = this.names[this.value];
  }
}

/** Class ids whose name holds every word of the search, or whose number it is; names that start so come first. */
export function matching(names: readonly string[], order: readonly number[], search: string): number[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [...order];
  const fits = (target: number) => {
    const name = names[target].toLowerCase();
    return String(target) === words.join(" ") || words.every((word) => name.includes(word));
  };
  const starts = (target: number) => Number(names[target].toLowerCase().startsWith(words.join(" ")));
  return order.filter(fits).sort((a, b) => starts(b) - starts(a));
}
