"use strict";

/* The numbers of a map: decoded, looked up, and put into words. Knows no element of the page. */

const floats = (text) => new Float32Array(bytes(text).buffer);
const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));

/** A number in three digits, as Python's "%.3g" writes it: 0.984, 12.3, 1.2e-05. */
function threeDigits(value) {
  if (Number.isNaN(value)) return "not computed";
  if (!Number.isFinite(value)) return value > 0 ? "infinite" : "-infinite";
  if (value === 0) return "0";
  const [digits, power] = value.toExponential(2).split("e");
  const exponent = Number(power);
  if (exponent >= -4 && exponent < 3) return String(Number(value.toPrecision(3)));
  const sign = exponent < 0 ? "-" : "+";
  return `${Number(digits)}e${sign}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

/** A share of 0 to 1 in per cent; neither 0 % nor 100 % unless it is. */
function perCent(part) {
  if (part > 0 && part < 0.01) return "under 1 %";
  return part > 0.99 && part < 1 ? "over 99 %" : `${Math.round(100 * part)} %`;
}

/** A map as `report.data` describes it. A cell is {row, column}; a class is its place among the targets. */
class OcclusionMap {
  constructor(data) {
    this.data = data;
    this.grid = data.grid;
    this.rows = data.grid.tops.length;
    this.columns = data.grid.lefts.length;
    this.positions = this.rows * this.columns;
    this.baseline = floats(data.baseline);
    this.scores = floats(data.scores);
    this.computed = bytes(data.computed);
    this.predicted = data.predicted === null ? null : new Int32Array(bytes(data.predicted).buffer);
    this.mask = data.mask === null ? null : floats(data.mask);
    this.averages = new Map();
  }

  index(cell) {
    return cell.row * this.columns + cell.column;
  }

  /** What is hidden at a cell, in pixels of the image; it ends before bottom and right. */
  patchAt(cell) {
    const [height, width] = this.grid.patch;
    const top = this.grid.tops[cell.row];
    const left = this.grid.lefts[cell.column];
    return { top, left, height, width, bottom: top + height, right: left + width };
  }

  /** Where the cells lie in the image, as pixels from its upper left corner: each a stride wide, around its patch. */
  get extent() {
    const { tops, lefts, patch, stride } = this.grid;
    return {
      top: tops[0] + (patch[0] - stride[0]) / 2,
      left: lefts[0] + (patch[1] - stride[1]) / 2,
      height: stride[0] * this.rows,
      width: stride[1] * this.columns,
    };
  }

  /** The cell at a point of the image (pixels); null where no patch near it hides that point. */
  cellAt(x, y) {
    const { top, left } = this.extent;
    const [stepY, stepX] = this.grid.stride;
    const within = (value, count) => Math.min(Math.max(Math.floor(value), 0), count - 1);
    const cell = { row: within((y - top) / stepY, this.rows), column: within((x - left) / stepX, this.columns) };
    const patch = this.patchAt(cell);
    const reachY = Math.max(stepY, patch.height) / 2;
    const reachX = Math.max(stepX, patch.width) / 2;
    const away = [Math.abs(y - (patch.top + patch.height / 2)), Math.abs(x - (patch.left + patch.width / 2))];
    return away[0] <= reachY && away[1] <= reachX ? cell : null;
  }

  scoreAt(target, cell) {
    return this.scores[target * this.positions + this.index(cell)];
  }

  dropAt(target, cell) {
    return Math.fround(this.baseline[target] - this.scoreAt(target, cell));
  }

  classAt(cell) {
    const id = this.predicted === null ? -1 : this.predicted[this.index(cell)];
    return id < 0 ? "not computed" : this.data.names[id];
  }

  /** All values of a view ("drop", "score"), one a cell. */
  values(view, target) {
    const scores = this.scores.subarray(target * this.positions, (target + 1) * this.positions);
    return view === "score" ? scores : scores.map((score) => this.baseline[target] - score);
  }

  /** The mean drop over the patches that hide each pixel of the image; NaN where none does. */
  perPixel(target) {
    if (!this.averages.has(target)) this.averages.set(target, this.averaged(this.values("drop", target)));
    return this.averages.get(target);
  }

  averaged(values) {
    const { height, width } = this.data.image;
    const total = new Float64Array(height * width);
    const weight = new Float64Array(height * width);
    values.forEach((value, index) => {
      if (!Number.isFinite(value)) return;
      const patch = this.patchAt({ row: Math.floor(index / this.columns), column: index % this.columns });
      for (let y = 0; y < patch.height; y += 1) {
        const start = (patch.top + y) * width + patch.left;
        for (let x = 0; x < patch.width; x += 1) {
          const share = this.mask === null ? 1 : this.mask[y * patch.width + x];
          total[start + x] += share * value;
          weight[start + x] += share;
        }
      }
    });
    return Float32Array.from(total, (sum, index) => (weight[index] > 0 ? sum / weight[index] : NaN));
  }

  /** The values at the ends of the colours, of one class or of all: around zero for drops, from least to largest else. */
  limits(view, targets) {
    let least = Infinity;
    let largest = -Infinity;
    const meet = (value) => {
      if (!Number.isFinite(value)) return;
      least = Math.min(least, value);
      largest = Math.max(largest, value);
    };
    for (const target of targets) {
      (view === "pixel" ? this.perPixel(target) : this.values(view, target)).forEach(meet);
      if (view === "score") meet(this.baseline[target]);
    }
    if (view !== "score") {
      const limit = Math.max(Math.abs(least), Math.abs(largest));
      return Number.isFinite(limit) && limit > 0 ? [-limit, limit] : [-1, 1];
    }
    if (least > largest) return [0, 1];
    return largest > least ? [least, largest] : [least - 0.5, least + 0.5];
  }

  /** The classes that the occluded image turns into, [{id, name, share, color}], the usual one first, without a colour. */
  legend() {
    const counts = new Map();
    for (const id of this.predicted) if (id >= 0) counts.set(id, (counts.get(id) ?? 0) + 1);
    const known = [...counts.values()].reduce((sum, count) => sum + count, 0);
    const ordered = [...counts].sort((one, other) => other[1] - one[1] || one[0] - other[0]);
    const { categories, other } = this.data.colors;
    return ordered.map(([id, count], place) => ({
      id,
      name: this.data.names[id],
      share: count / known,
      color: place === 0 ? null : categories[place - 1] ?? other,
    }));
  }
}
