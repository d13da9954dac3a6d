"use strict";

/* Parts of the page that are made of the numbers: ticks, legend, marks and the rows of the table. Text stays text. */

const TICKS = 5;

function element(name, text, kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

/** Lay an element over a rectangle of the image. */
function placeOver(it, { top, left, height, width }, image) {
  const share = (part, whole) => `${(100 * part) / whole}%`;
  Object.assign(it.style, {
    top: share(top, image.height), left: share(left, image.width),
    height: share(height, image.height), width: share(width, image.width),
  });
}

/** The numbers below the colour bar. What is nothing beside the whole is a rounded zero. */
function tickElements([low, high]) {
  return Array.from({ length: TICKS }, (_, place) => {
    const value = low + (place * (high - low)) / (TICKS - 1);
    return element("span", threeDigits(Math.abs(value) < 1e-9 * (high - low) ? 0 : value));
  });
}

/** What the colours of classes mean; those beyond the last colour together. */
function legendElements(map) {
  const entries = map.legend();
  const most = map.data.colors.categories.length + 1;
  const shown = entries.slice(0, most).map((entry) => legendElement(entry.name, entry.share, entry.color));
  const others = entries.slice(most);
  if (others.length) {
    const share = others.reduce((sum, entry) => sum + entry.share, 0);
    shown.push(legendElement(`${others.length} other classes`, share, map.data.colors.other));
  }
  return shown;
}

function legendElement(name, share, color) {
  const swatch = element("span", "", color ? "swatch" : "swatch clear");
  if (color) swatch.style.backgroundColor = color;
  const item = element("li", "");
  item.append(swatch, element("bdi", name), ` ${perCent(share)}${color ? "" : ", not coloured"}`);
  return item;
}

/** The places of the largest drops on the map, numbered as in the table. */
function markElements(map, target) {
  return map.data.extremes[target].map(([row, column], place) => {
    const mark = element("span", "", "mark");
    mark.append(element("span", String(place + 1)));
    placeOver(mark, map.patchAt({ row, column }), map.data.image);
    return mark;
  });
}

/** A row of the table for each of the largest drops; its button jumps to the cell. */
function dropRows(map, target, jump) {
  return map.data.extremes[target].map(([row, column], place) => {
    const cell = { row, column };
    const { top, left } = map.patchAt(cell);
    const head = element("th", String(place + 1));
    head.scope = "row";
    const button = element("button", `${left}, ${top}`);
    button.type = "button";
    button.setAttribute("aria-label", `Show drop ${place + 1}, at ${left} across, ${top} down`);
    button.addEventListener("click", () => jump(cell));
    const where = element("td", "");
    where.append(button);
    const into = element("td", "", "class");
    into.append(element("bdi", map.classAt(cell)));
    const line = element("tr", "");
    line.append(
      head, where, element("td", threeDigits(map.dropAt(target, cell)), "number"),
      element("td", threeDigits(map.scoreAt(target, cell)), "number"), into,
    );
    return line;
  });
}
