/* The form: patch, stride and what hides the image. */

import type { Fill, Manifest } from "../manifest";
import type { Pair } from "../maps/grid";
import type { Settings } from "../session";
import { element, make } from "./elements";

const WORDS: readonly (readonly [string, string])[] = [
  ["mean", "the image’s mean colour"],
  ["gray", "grey"],
  ["black", "black"],
  ["white", "white"],
];

export class SettingsForm {
  private readonly patch = element<HTMLInputElement>("patch");
  private readonly stride = element<HTMLInputElement>("stride");
  private readonly fill = element<HTMLSelectElement>("fill");

  constructor(
    private readonly manifest: Manifest,
    changed: () => void,
  ) {
    const { patch, stride, fill } = manifest.defaults;
    this.patch.value = sizeText(patch);
    this.stride.value = sizeText(stride);
    const own = typeof fill === "string" ? [] : ([["default", `${fillText(fill)} (the model’s numbers)`]] as const);
    this.fill.replaceChildren(...[...own, ...WORDS].map(([value, text]) => make("option", { value }, text)));
    this.fill.value = typeof fill === "string" ? fill : "default";
    for (const input of [this.patch, this.stride, this.fill]) input.addEventListener("input", changed);
  }

  /** Throws an Error of one line where a number cannot be read. */
  read(): Settings {
    const fill = this.fill.value === "default" ? this.manifest.defaults.fill : (this.fill.value as Fill);
    return { patch: readSize(this.patch.value, "patch"), stride: readSize(this.stride.value, "stride"), fill };
  }

  /** Shows what a script asked for. */
  show(settings: Settings): void {
    this.patch.value = sizeText(settings.patch);
    this.stride.value = sizeText(settings.stride);
    if (WORDS.some(([word]) => word === settings.fill)) this.fill.value = settings.fill as string;
    else if (this.fill.options[0].value === "default") this.fill.value = "default";
  }
}

/** "16", or "16 x 24": height and width. */
export function readSize(text: string, name: string): Pair {
  const match = /^\s*(\d{1,5})\s*(?:[x×,]\s*(\d{1,5})\s*)?$/.exec(text);
  if (match === null) throw new Error(`The ${name} must be a number of pixels, or height x width: 16, or 16 x 24.`);
  return [Number(match[1]), Number(match[2] ?? match[1])];
}

export const sizeText = ([height, width]: Pair): string => (height === width ? String(height) : `${height} x ${width}`);

export function fillText(fill: Fill): string {
  if (typeof fill === "string") return WORDS.find(([word]) => word === fill)?.[1] ?? fill;
  return typeof fill === "number" ? String(fill) : fill.map((one) => Number(one.toPrecision(4))).join(", ");
}
