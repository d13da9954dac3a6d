/* The wire format of Protocol Buffers, as far as it takes to leave parts of a message out. */

/** One field of a message: its number, its bytes with the tag, and, where it has a length, what it holds. */
export interface Field {
  number: number;
  whole: Uint8Array;
  body: Uint8Array | null;
}

/** The fields of a message, in order. Nothing is copied. Throws where the bytes are not a message. */
export function* fieldsOf(message: Uint8Array): Generator<Field> {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[at];
      if (byte === undefined || shift > 63) throw new Error("not a message of Protocol Buffers");
      at += 1;
      value += (byte & 0x7f) * 2 ** shift; // exact below 2 ** 53, more than any length has
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const start = at;
    const tag = varint();
    const kind = tag & 7;
    let body: Uint8Array | null = null;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      body = message.subarray(at, at + length);
      at += length;
    } else throw new Error("not a message of Protocol Buffers");
    if (at > message.length) throw new Error("a message of Protocol Buffers that is cut short");
    yield { number: Math.floor(tag / 8), whole: message.subarray(start, at), body };
  }
}

/** A field that has a length, as pieces. */
export function withLength(number: number, pieces: readonly Uint8Array[]): Uint8Array[] {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  return [Uint8Array.from([...varintOf(number * 8 + 2), ...varintOf(length)]), ...pieces];
}

function varintOf(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 0x7f) {
    bytes.push((rest % 0x80) + 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return [...bytes, rest];
}

export function joined(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
