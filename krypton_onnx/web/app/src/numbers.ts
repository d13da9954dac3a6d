/* Numbers as Python rounds and prints them, and times in words. */

/** Python's round: halves go to the even neighbour. */
export function roundHalfEven(value: number): number {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

/** Three digits, as Python's "%.3g" writes them: 0.984, 12.3, 1.2e-05. */
export function threeDigits(value: number): string {
  if (!Number.isFinite(value)) return "not computed";
  if (value === 0) return "0";
  const [digits, power] = value.toExponential(2).split("e");
  const exponent = Number(power);
  if (exponent >= -4 && exponent < 3) return String(Number(value.toPrecision(3)));
  return `${Number(digits)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

/** With its sign, a true minus: +0.12, −0.3, 0. */
export function signed(value: number): string {
  const text = threeDigits(Math.abs(value));
  return value === 0 || !Number.isFinite(value) ? text : (value > 0 ? "+" : "\u2212") + text;
}

/** "8 s", "2 min 5 s"; at least a second. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(1, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${minutes} min ${seconds % 60} s`;
}

/** "4.8 MB". */
export function megabytes(bytes: number): string {
  const size = bytes / 1e6;
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} MB`;
}
