/* What the model says of the image as it is: the likeliest classes, with bars. */

import { threeDigits } from "../numbers";
import { ranked } from "../maps/heat_map";
import { element, make } from "./elements";

const SHOWN = 5;

/** baseline : one score a class. Bars are shares of 1 for probabilities, of the largest score otherwise. */
export function showPredictions(
  baseline: Float32Array,
  names: readonly string[],
  probabilities: boolean,
  chosen: (target: number) => void,
): void {
  const best = ranked(baseline).slice(0, SHOWN);
  const full = probabilities ? 1 : Math.max(...best.map((target) => Math.abs(baseline[target])), 1e-30);
  const rows = best.map((target) => {
    const share = make("span", { className: "share" });
    share.style.width = `${100 * Math.min(Math.max(baseline[target] / full, 0), 1)}%`;
    const value = make("span", { className: "value" }, barText(baseline[target], probabilities));
    const button = make("button", { type: "button" }, share, make("span", {}, names[target]), value);
    button.dataset.class = String(target);
    button.addEventListener("click", () => chosen(target));
    return make("li", {}, button);
  });
  element("predictions").replaceChildren(...rows);
}

/** Shows which of them is explained. */
export function markPrediction(target: number): void {
  for (const button of element("predictions").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.class) === target));
  }
}

/** "96.4 %" of probabilities, three digits of others. */
function barText(score: number, probability: boolean): string {
  if (!probability) return threeDigits(score);
  const percent = 100 * score;
  return percent > 0 && percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(1)} %`;
}
