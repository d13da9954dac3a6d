"use strict";

/* The page: what is chosen, where the pointer and the focus are, and what is told about it. */

const SPOKEN_AFTER = 250; // milliseconds without another move

const byId = (id) => document.getElementById(id);
const within = (value, least, most) => Math.min(Math.max(value, least), most);

class Report {
  constructor(map, drawing) {
    this.map = map;
    this.drawing = drawing;
    this.target = 0;
    this.view = "drop";
    this.opacity = Number(byId("opacity").value) / 100;
    this.together = true; // one scale for all classes
    this.focused = this.largest();
    this.hovered = null; // {cell, x, y} under the pointer
    this.frame();
    this.choices();
    this.pointer();
    byId("map").addEventListener("keydown", (event) => this.key(event));
    this.showClass();
  }

  /** The cell where hiding hurts most; the middle where it hurts nowhere. */
  largest() {
    const [first] = this.map.data.extremes[this.target];
    if (first) return { row: first[0], column: first[1] };
    return { row: Math.floor((this.map.rows - 1) / 2), column: Math.floor((this.map.columns - 1) / 2) };
  }

  // -- choices --------------------------------------------------------------------------------------------------------

  frame() {
    const { height, width } = this.map.data.image;
    for (const stage of document.querySelectorAll(".stage")) {
      stage.style.setProperty("aspect-ratio", `${width} / ${height}`);
      stage.style.setProperty("--shape", String(width / height));
      stage.classList.toggle("pixelated", !this.map.data.image.smooth);
    }
  }

  choices() {
    byId("class-choice").hidden = this.map.data.targets.length === 1;
    byId("class").addEventListener("change", (event) => this.choose(event.target.selectedIndex));
    byId("together").addEventListener("change", (event) => {
      this.together = event.target.checked;
      this.showMap();
    });
    byId("marked").addEventListener("change", (event) => byId("marks").classList.toggle("off", !event.target.checked));
    byId("opacity").addEventListener("input", (event) => {
      this.opacity = Number(event.target.value) / 100;
      event.target.setAttribute("aria-valuetext", `${event.target.value} %`);
      byId("opacity-value").textContent = `${event.target.value} %`;
      this.showMap();
    });
    for (const choice of document.querySelectorAll("input[name=view]")) {
      choice.parentElement.hidden =
        (choice.value === "class" && this.map.predicted === null) ||
        (choice.value === "pixel" && !this.map.data.per_pixel);
      choice.addEventListener("change", () => {
        this.view = choice.value;
        this.showMap();
        this.tell();
      });
    }
    byId("copy").addEventListener("click", () => this.copy());
  }

  choose(target) {
    this.target = within(target, 0, this.map.data.targets.length - 1);
    byId("class").selectedIndex = this.target;
    this.hovered = null;
    this.showClass();
    this.tell(`${this.targetName()}: `);
  }

  targetName() {
    return this.map.data.targets[this.target].name;
  }

  async copy() {
    const text = byId("toml").textContent;
    try {
      await navigator.clipboard.writeText(text);
      byId("copied").textContent = "Copied";
    } catch {
      // Pages out of a file may not write to the clipboard: the text is selected, to be copied by hand.
      getSelection().selectAllChildren(byId("toml"));
      byId("copied").textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it by Ctrl+C";
    }
  }

  // -- pointer and keyboard -------------------------------------------------------------------------------------------

  pointer() {
    const widget = byId("map");
    const at = (event) => {
      const box = byId("cells").getBoundingClientRect();
      const { height, width } = this.map.data.image;
      const x = ((event.clientX - box.left) / box.width) * width;
      const y = ((event.clientY - box.top) / box.height) * height;
      const cell = this.map.cellAt(x, y);
      return cell && { cell, x: within(Math.floor(x), 0, width - 1), y: within(Math.floor(y), 0, height - 1) };
    };
    widget.addEventListener("pointermove", (event) => {
      this.hovered = at(event);
      this.showCell();
    });
    widget.addEventListener("pointerleave", () => {
      this.hovered = null;
      this.showCell();
    });
    widget.addEventListener("click", (event) => {
      const found = at(event);
      if (!found) return;
      this.focused = found.cell;
      this.showCell();
      this.tell();
    });
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { row, column } = this.focused;
    const [bottom, right] = [this.map.rows - 1, this.map.columns - 1];
    const to = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [row, 0], End: [row, right], PageUp: [0, column], PageDown: [bottom, column],
    }[event.key];
    const several = this.map.data.targets.length > 1;
    if (to) this.move({ row: within(to[0], 0, bottom), column: within(to[1], 0, right) });
    else if (several && event.key === "[") this.choose(this.target - 1);
    else if (several && event.key === "]") this.choose(this.target + 1);
    else if (several && event.key >= "1" && event.key <= "9" && this.map.data.targets[Number(event.key) - 1]) {
      this.choose(Number(event.key) - 1);
    } else return;
    event.preventDefault();
  }

  move(cell) {
    this.focused = cell;
    this.hovered = null;
    this.showCell();
    this.tell();
  }

  jump(cell) {
    this.move(cell);
    byId("map").focus();
  }

  // -- what is shown --------------------------------------------------------------------------------------------------

  showClass() {
    const name = this.targetName();
    byId("map").setAttribute("aria-label", `Occlusion map of ${name}`);
    for (const place of document.querySelectorAll(".target-name")) place.textContent = name;
    for (const place of document.querySelectorAll(".target-score")) {
      place.textContent = threeDigits(this.map.baseline[this.target]);
    }
    const found = this.map.data.extremes[this.target];
    byId("no-drops").hidden = found.length > 0;
    byId("drops").hidden = found.length === 0;
    byId("drops-body").replaceChildren(...dropRows(this.map, this.target, (cell) => this.jump(cell)));
    byId("marks").replaceChildren(...markElements(this.map, this.target));
    this.showMap();
  }

  showMap() {
    const drops = this.view === "drop" || this.view === "pixel";
    const targets = this.together && drops ? this.map.data.targets.keys() : [this.target];
    this.limits = this.view === "class" ? null : this.map.limits(this.view, [...targets]);
    this.drawing.paintMap(byId("cells"), this.view, this.target, this.limits, this.opacity);
    byId("scale").hidden = this.view === "class";
    byId("scale-choice").hidden = this.map.data.targets.length === 1 || !drops;
    byId("legend").hidden = this.view !== "class";
    if (this.view === "class") byId("legend-entries").replaceChildren(...legendElements(this.map));
    else this.showScale();
    this.showCell();
  }

  showScale() {
    const name = this.map.data.score_name;
    const caption = {
      drop: `Drop of the ${name} when hidden`,
      score: `The ${name} when hidden`,
      pixel: `Drop of the ${name}, mean over the patches that hide each pixel`,
    }[this.view];
    byId("scale-caption").textContent = caption;
    this.drawing.paintBar(byId("bar"), this.view);
    byId("ticks").replaceChildren(...tickElements(this.limits));
    byId("ends").hidden = this.view === "score";
    const meaning = this.view === "score" ? "" : " Blue: speaks against the class. Red: supports the class.";
    const [low, high] = this.limits;
    byId("bar").setAttribute("aria-label", `${caption}, from ${threeDigits(low)} to ${threeDigits(high)}.${meaning}`);
  }

  /** The cell under the pointer, or else the focused one: in the figures, and beside them. */
  showCell() {
    const cell = this.hovered?.cell ?? this.focused;
    const patch = this.map.patchAt(cell);
    const score = this.map.scoreAt(this.target, cell);
    placeOver(byId("patch"), patch, this.map.data.image);
    placeOver(byId("hidden-patch"), patch, this.map.data.image);
    this.drawing.paintOccluded(byId("occluded"), cell);
    byId("occluded").setAttribute(
      "aria-label", `The image with the patch hidden that is ${patch.left} across and ${patch.top} down`,
    );
    byId("where").textContent = this.hovered ? "Under the pointer" : "At the chosen cell";
    byId("cell").textContent =
      `row ${cell.row + 1} of ${this.map.rows}, column ${cell.column + 1} of ${this.map.columns}`;
    byId("pixels").textContent = `${patch.left} to ${patch.right} across, ${patch.top} to ${patch.bottom} down`;
    byId("drop").textContent = threeDigits(this.map.dropAt(this.target, cell));
    byId("score").textContent = threeDigits(score);
    byId("predicted").textContent = this.map.classAt(cell);
    const known = this.map.computed[this.map.index(cell)];
    byId("how-known").textContent = known || Number.isNaN(score) ? "" : " (interpolated)";
    byId("mean-row").hidden = this.view !== "pixel";
    if (this.view === "pixel") byId("mean").textContent = threeDigits(this.meanAt(patch));
    this.point(patch, score, cell);
  }

  /** The mean drop of the pixel under the pointer; with the keyboard, in the middle of the patch. */
  meanAt(patch) {
    const y = this.hovered?.y ?? patch.top + Math.floor(patch.height / 2);
    const x = this.hovered?.x ?? patch.left + Math.floor(patch.width / 2);
    return this.map.perPixel(this.target)[y * this.map.data.image.width + x];
  }

  /** Where the value lies on the colour bar. */
  point(patch, score, cell) {
    if (this.view === "class") return;
    const [low, high] = this.limits;
    const at = this.view === "pixel" ? this.meanAt(patch) : this.view === "score" ? score : this.map.dropAt(this.target, cell);
    byId("pointer").hidden = Number.isNaN(at);
    byId("pointer").style.left = `${100 * within((at - low) / (high - low), 0, 1)}%`;
  }

  // -- for those who listen -------------------------------------------------------------------------------------------

  /** What there is to know about the focused cell, once it has been still for a moment. */
  tell(before = "") {
    const cell = this.focused;
    const said = [
      `Row ${cell.row + 1}, column ${cell.column + 1}`,
      `drop ${threeDigits(this.map.dropAt(this.target, cell))}`,
      `${this.map.data.score_name} ${threeDigits(this.map.scoreAt(this.target, cell))}`,
    ];
    if (this.view === "pixel") said.push(`mean at the middle ${threeDigits(this.meanAt(this.map.patchAt(cell)))}`);
    if (this.map.predicted !== null) said.push(`predicted ${this.map.classAt(cell)}`);
    this.speak(`${before}${said.join(", ")}.`);
  }

  speak(text) {
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => {
      byId("spoken").textContent = text;
    }, SPOKEN_AFTER);
  }
}

async function start() {
  const map = new OcclusionMap(JSON.parse(byId("data").textContent));
  const image = byId("image");
  const patches = new Image();
  if (map.data.patches !== null) patches.src = map.data.patches.src;
  await Promise.all([image.decode(), map.data.patches === null ? null : patches.decode()]);
  document.documentElement.classList.add("ready");
  return new Report(map, new Drawing(map, image, patches));
}

start();
