/* window.krypton: the page for scripts and tests.
 *
 *   await krypton.ready                              {provider, threads, why, title, classes}
 *   await krypton.setImage(blob)                     {height, width}, as the model sees it
 *   krypton.input()                                  Float32Array (C, H, W): the image as the model takes it
 *   await krypton.explain({targets, patch, stride, fill, batch})
 *                                                    the map, with the keys of HeatMap.to_dict in Python
 *   await krypton.measure({patch, stride, fill, batch, positions})
 *                                                    {naive_ms, incremental_ms, factor, difference, ...}, a position
 *   krypton.cancel()
 *
 * All of explain's and measure's options may be left out: the page's own are taken. targets: class ids, one or two are
 * shown, all come in the map; none given, the predicted class. Promises reject with an Error of one line.
 * ?provider=wasm or webgpu and ?threads=N in the address of the page override what it chooses.
 */

import type { App } from "./app";
import type { Fill } from "./manifest";
import type { MapJson } from "./maps/heat_map";
import type { Pair } from "./maps/grid";
import type { Measured } from "./maps/measure";
import type { Session, Settings } from "./session";

export interface Options {
  patch?: number | Pair;
  stride?: number | Pair;
  fill?: Fill;
}

export interface Ready {
  provider: string;
  threads: number;
  why: string;
  title: string;
  classes: number | null;
}

export interface KryptonApi {
  ready: Promise<Ready>;
  setImage(image: Blob): Promise<{ height: number; width: number }>;
  input(): Float32Array;
  explain(options?: Options & { targets?: number[]; batch?: number }): Promise<MapJson>;
  measure(options?: Options & { batch?: number; positions?: number }): Promise<Measured>;
  cancel(): void;
}

/** opened : the session and the page around it, when the model is loaded. */
export function makeApi(opened: Promise<{ session: Session; app: App }>): KryptonApi {
  const ready = opened.then(({ session }) => ({
    provider: session.inference.provider,
    threads: session.inference.threads,
    why: session.inference.why,
    title: session.manifest.title,
    classes: session.manifest.labels?.length ?? null,
  }));
  ready.catch(() => undefined); // the page shows it; who awaits it gets it, too
  let current: { session: Session; app: App } | null = null;
  opened.then((made) => (current = made)).catch(() => undefined);
  return {
    ready,
    async setImage(image) {
      const { height, width } = await (await opened).app.setImage(image);
      return { height, width };
    },
    input() {
      if (!current?.session.subject) throw new Error("Choose an image first.");
      return current.session.subject.picture.input.slice();
    },
    async explain({ targets, batch, ...options } = {}) {
      const { app } = await opened;
      const settings = settingsOf(options, app.settings);
      app.showSettings(settings);
      if (targets !== undefined) app.chooseTargets(targets);
      const asked = targets ?? app.targets;
      await app.explain(settings, batch ?? null, asked);
      return app.json(asked);
    },
    async measure({ batch, positions, ...options } = {}) {
      const { app } = await opened;
      return app.measure(settingsOf(options, app.settings), batch, positions);
    },
    cancel: () => current?.app.cancel(),
  };
}

function settingsOf(options: Options, own: Settings): Settings {
  const pair = (value: number | Pair | undefined, otherwise: Pair): Pair =>
    value === undefined ? otherwise : typeof value === "number" ? [value, value] : value;
  return {
    patch: pair(options.patch, own.patch),
    stride: pair(options.stride, own.stride),
    fill: options.fill ?? own.fill,
  };
}
