/* Files to keep: the picture with its legend, and the numbers. */

import { colourBar } from "../maps/colors";
import { threeDigits } from "../numbers";
import { make } from "./elements";
import { painted } from "./stage";

export function save(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** What a picture says. figures : drawn maps and their titles. lines : below the legend. */
export interface Sheet {
  title: string;
  figures: readonly { canvas: HTMLCanvasElement; title: string; score: string }[];
  limit: number;
  lines: readonly string[];
}

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
const WIDTH = 1000; // of a figure, in dots
const MARGIN = 40;
const INK = "#1a1a1a";
const QUIET = "#4d4d4d";

/** Always ink on paper, as it is meant for a report. */
export async function drawSheet({ title, figures, limit, lines }: Sheet): Promise<Blob> {
  const heights = figures.map(({ canvas }) => Math.round((WIDTH * canvas.height) / canvas.width));
  const tall = Math.max(...heights);
  const width = figures.length * (WIDTH + MARGIN) + MARGIN;
  const top = MARGIN + 44;
  const below = top + 80 + tall;
  const sheet = make("canvas", { width, height: below + 140 + 30 * lines.length });
  const context = sheet.getContext("2d")!;
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, sheet.width, sheet.height);
  const write = (text: string, x: number, y: number, font: string, colour = INK, align: CanvasTextAlign = "left") => {
    context.font = `${font} ${FONT}`;
    context.fillStyle = colour;
    context.textAlign = align;
    context.fillText(text, x, y, width - 2 * MARGIN);
  };
  write(title, MARGIN, MARGIN + 24, "600 30px");
  context.imageSmoothingQuality = "high";
  figures.forEach((figure, n) => {
    const left = MARGIN + n * (WIDTH + MARGIN);
    write(figure.title, left, top + 32, "600 26px");
    write(figure.score, left, top + 62, "22px", QUIET);
    context.drawImage(figure.canvas, left, top + 80, WIDTH, heights[n]);
  });
  context.imageSmoothingEnabled = false;
  const long = width - 2 * MARGIN;
  context.drawImage(painted(colourBar(), 256, 1), MARGIN, below + 30, long, 22);
  const ends = [MARGIN, MARGIN + long / 2, MARGIN + long];
  [`\u2212${threeDigits(limit)}`, "0", `+${threeDigits(limit)}`].forEach((text, n) =>
    write(text, ends[n], below + 80, "22px", INK, (["left", "center", "right"] as const)[n]),
  );
  write("hiding it raises the score", MARGIN, below + 108, "20px", QUIET);
  write("hiding it lowers the score", MARGIN + long, below + 108, "20px", QUIET, "right");
  lines.forEach((line, n) => write(line, MARGIN, below + 148 + 30 * n, "20px", QUIET));
  const blob = await new Promise<Blob | null>((resolve) => sheet.toBlob(resolve, "image/png"));
  if (blob === null) throw new Error("The picture cannot be made: this browser has no memory left for it.");
  return blob;
}
