/* How far a map is, for the eye at every batch and for screen readers now and then. */

import type { Progress } from "../maps/explain";
import { duration } from "../numbers";
import { announce, element } from "./elements";

const ANNOUNCED = [0.25, 0.5, 0.75]; // shares

const SPACINGS: Record<number, string> = {
  8: "every 8th row and column",
  4: "every 4th",
  2: "every 2nd",
  1: "all positions",
};

export class ProgressView {
  private told = 0;

  start(done: number, total: number): void {
    this.told = ANNOUNCED.filter((one) => done / total >= one).length;
    element<HTMLProgressElement>("progress-bar").value = done / total;
    element("progress-text").textContent = `${done} of ${total} positions`;
    announce(`Computing ${total - done} positions`);
  }

  update({ done, total, spacing, left }: Progress): void {
    const share = done / total;
    element<HTMLProgressElement>("progress-bar").value = share;
    const rest = done < total ? `; about ${duration(left)} left` : "";
    element("progress-text").textContent = `${done} of ${total} positions, ${SPACINGS[spacing]}${rest}`;
    const reached = ANNOUNCED.filter((one) => share >= one).length;
    if (reached > this.told && done < total)
      announce(`${Math.round(100 * share)} percent, about ${duration(left)} left`);
    this.told = Math.max(this.told, reached);
  }

  /** text : what came of it. */
  end(text: string): void {
    element("progress-text").textContent = text;
    announce(text);
  }
}
