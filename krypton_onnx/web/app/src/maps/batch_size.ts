/* How many positions a run takes: many share one unoccluded pass, fewer keep the page lively and memory small. */

const FIRST = 64;
const MOST = 256;
const FEWEST = 32; // where time is the reason; memory may ask for less
const LONG = 4000; // milliseconds a run
const SHORT = 600;

export class BatchSize {
  private ceiling: number;

  /** fixed : always so many, memory permitting. */
  constructor(
    public size = FIRST,
    private readonly fixed = false,
  ) {
    this.ceiling = fixed ? size : MOST;
  }

  /** A run of so many positions took so long. */
  took(positions: number, milliseconds: number): void {
    if (this.fixed || positions < this.size) return; // a smaller run says little
    if (milliseconds > LONG) this.size = Math.min(this.size, Math.max(FEWEST, Math.floor(this.size / 2)));
    else if (milliseconds < SHORT) this.size = Math.min(this.ceiling, this.size * 2);
  }

  /** Memory ran out at so many positions. Returns false where there is nothing smaller. */
  shrink(positions: number): boolean {
    if (positions <= 1) return false;
    this.size = this.ceiling = Math.floor(positions / 2);
    return true;
  }
}
