"use strict";

/* Canvases: the image with the map over it, the image with a patch hidden, and the colour bar. */

const MOST_DOTS = 2048; // a side of a canvas
const FEWEST_DOTS = 1000; // so that it is sharp on paper, too
const SCORE_OPACITY = 0.7; // scores colour every cell: the image must be seen through them

/** The place of a value between two limits, 0 to 255. */
const shadeOf = (value, [low, high]) => Math.round(255 * Math.min(Math.max((value - low) / (high - low), 0), 1));

class Drawing {
  constructor(map, image, patches) {
    this.map = map;
    this.image = image;
    this.patches = patches;
    this.tables = { drop: bytes(map.data.colors.diverging), score: bytes(map.data.colors.sequential) };
    this.tables.pixel = this.tables.drop;
    this.grey = this.greyed();
  }

  /** The image in grey and no lighter than three quarters, so that the light colours of a map stand out on it. */
  greyed() {
    const { context, canvas } = this.blank(this.image.naturalWidth, this.image.naturalHeight);
    context.drawImage(this.image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < pixels.data.length; at += 4) {
      const [red, green, blue] = pixels.data.subarray(at, at + 3);
      pixels.data.fill(0.75 * (0.299 * red + 0.587 * green + 0.114 * blue), at, at + 3);
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  blank(width, height) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    return { canvas, context: canvas.getContext("2d", { willReadFrequently: true }) };
  }

  /** The map over the image. opacity 0: the image alone and in its colours; 1: what matters hides it. */
  paintMap(canvas, view, target, limits, opacity) {
    const { height, width } = this.map.data.image;
    const side = Math.max(height, width);
    const zoom = Math.min(2 * Math.ceil(FEWEST_DOTS / side / 2), MOST_DOTS / side);
    this.resize(canvas, Math.round(width * zoom), Math.round(height * zoom));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
    context.imageSmoothingEnabled = this.map.data.image.smooth;
    context.globalAlpha = 1;
    context.drawImage(this.image, 0, 0, width, height);
    context.globalAlpha = opacity;
    context.drawImage(this.grey, 0, 0, width, height);
    context.imageSmoothingEnabled = false;
    const place = view === "pixel" ? { top: 0, left: 0, height, width } : this.map.extent;
    const cells = view === "class" ? this.classCells() : this.numberCells(view, target, limits);
    context.drawImage(cells, place.left, place.top, place.width, place.height);
  }

  resize(canvas, width, height) {
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
  }

  /** A dot a cell (a pixel of the image, in the view by pixels): the colour of its value, the clearer the more it matters. */
  numberCells(view, target, limits) {
    const values = view === "pixel" ? this.map.perPixel(target) : this.map.values(view, target);
    const columns = view === "pixel" ? this.map.data.image.width : this.map.columns;
    const table = this.tables[view];
    const fade = this.map.data.colors.fade * limits[1];
    return this.dots(columns, values.length / columns, (index) => {
      const value = values[index];
      if (Number.isNaN(value)) return view === "pixel" ? null : undefined;
      const shade = 3 * shadeOf(value, limits);
      const weight = view === "score" ? SCORE_OPACITY : Math.min(Math.abs(value) / fade, 1) ** 2;
      return [table[shade], table[shade + 1], table[shade + 2], 255 * weight];
    });
  }

  /** A dot a cell: the colour of the class that the image turns into, nothing where it is the usual one. */
  classCells() {
    const colors = new Map(this.map.legend().map(({ id, color }) => [id, color]));
    return this.dots(this.map.columns, this.map.rows, (index) => {
      const id = this.map.predicted[index];
      if (id < 0) return undefined;
      const color = colors.get(id);
      return color === null ? null : [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)).concat(255);
    });
  }

  /** A canvas of dots; null leaves one clear, undefined marks one that is not known. */
  dots(width, height, colorOf) {
    const { canvas, context } = this.blank(width, height);
    const pixels = context.createImageData(width, height);
    for (let index = 0; index < width * height; index += 1) {
      const unknown = (Math.floor(index / width) + (index % width)) % 2 ? [140, 140, 140, 200] : [235, 235, 235, 200];
      const color = colorOf(index);
      if (color !== null) pixels.data.set(color ?? unknown, 4 * index);
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  /** The image as the model saw it with the patch of a cell hidden, a dot a pixel. */
  paintOccluded(canvas, cell) {
    const { height, width } = this.map.data.image;
    this.resize(canvas, width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = true;
    context.drawImage(this.image, 0, 0, width, height);
    const patch = this.map.patchAt(cell);
    const held = this.map.data.patches;
    if (held === null) {
      context.fillStyle = "#808080";
      context.fillRect(patch.left, patch.top, patch.width, patch.height);
      return;
    }
    const index = held.single ? 0 : this.map.index(cell);
    const left = held.width * (index % held.columns);
    const top = held.height * Math.floor(index / held.columns);
    context.imageSmoothingEnabled = false;
    context.drawImage(
      this.patches, left, top, held.width, held.height, patch.left, patch.top, patch.width, patch.height,
    );
  }

  /** The colours from low to high. */
  paintBar(canvas, view) {
    this.resize(canvas, 256, 1);
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(256, 1);
    const table = this.tables[view];
    for (let at = 0; at < 256; at += 1) {
      pixels.data.set([table[3 * at], table[3 * at + 1], table[3 * at + 2], 255], 4 * at);
    }
    context.putImageData(pixels, 0, 0);
  }
}
