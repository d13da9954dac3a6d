/* The model, downloaded once with progress, checked, and kept by the browser where it allows that. */

import type { Manifest } from "../manifest";
import { joined } from "./protobuf";

const CACHE = "krypton-onnx";

/** Throws an Error of one line where the model is missing or is not the one of the manifest. */
export async function download(
  folder: string,
  manifest: Manifest,
  progress: (bytes: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const address = new URL(manifest.model, folder).href;
  const key = `${address}?sha256=${manifest.sha256}`;
  const cache = await openCache();
  const kept = await cache?.match(key).catch(() => undefined);
  if (kept !== undefined) {
    const model = new Uint8Array(await kept.arrayBuffer());
    progress(model.length);
    return model;
  }
  const model = await received(address, manifest, progress);
  await requireSame(model, manifest);
  if (cache !== null) await keep(cache, key, address, model);
  return model;
}

async function received(
  address: string,
  manifest: Manifest,
  progress: (bytes: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(address, { cache: "no-cache" }).catch(() => null);
  if (response === null || !response.ok || response.body === null) {
    const reason = response === null ? "the server does not answer" : `the server answers ${response.status}`;
    throw new Error(`The model cannot be loaded: ${reason} for model/${manifest.model}.`);
  }
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return joined(pieces);
    pieces.push(value);
    bytes += value.length;
    progress(bytes);
  }
}

async function requireSame(model: Uint8Array<ArrayBuffer>, manifest: Manifest): Promise<void> {
  let same = model.length === manifest.bytes;
  if (same && globalThis.crypto?.subtle !== undefined) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", model));
    same = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === manifest.sha256;
  }
  if (!same) {
    throw new Error(
      `The model is not the one that model/manifest.json names (${model.length} of ${manifest.bytes} bytes)` +
        ": load the page again, or write the site again.",
    );
  }
}

/** null where the browser has none: an address without https, or private windows. */
async function openCache(): Promise<Cache | null> {
  try {
    return await caches.open(CACHE);
  } catch {
    return null;
  }
}

/** A model that does not fit is downloaded again next time. An older model of the same address is dropped. */
async function keep(cache: Cache, key: string, address: string, model: Uint8Array<ArrayBuffer>): Promise<void> {
  try {
    for (const old of await cache.keys()) if (old.url.split("?")[0] === address) await cache.delete(old);
    await cache.put(key, new Response(model));
  } catch {
    await cache.delete(key).catch(() => false);
  }
}
