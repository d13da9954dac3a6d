/* Starts the page: loads the model, and takes images meanwhile. */

import { makeApi, type KryptonApi } from "./api";
import { App } from "./app";
import type { Wishes } from "./engine/inference";
import type { Manifest } from "./manifest";
import { megabytes } from "./numbers";
import { Session } from "./session";
import { announce, element, showError } from "./ui/elements";
import { setUpSource } from "./ui/source";
import { setUpTheme } from "./ui/theme";

declare global {
  interface Window {
    krypton: KryptonApi;
  }
}

const FOLDER = new URL("model/", document.baseURI).href;

function wishes(): Wishes {
  const asked = new URLSearchParams(location.search);
  const provider = asked.get("provider");
  const threads = Number(asked.get("threads"));
  return {
    provider: provider === "wasm" || provider === "webgpu" ? provider : "auto",
    threads: Number.isInteger(threads) && threads > 0 ? threads : null,
  };
}

function know(manifest: Manifest): void {
  element("title").textContent = manifest.title;
  document.title = `${manifest.title}: occlusion map`;
  if (manifest.sample === null) return;
  element("sample").hidden = false;
  element("credit").hidden = false;
  element("credit").textContent = [manifest.sample.caption, manifest.sample.credit]
    .filter(Boolean)
    .join(". Photograph: ");
}

async function open(): Promise<{ session: Session; app: App }> {
  const bar = element<HTMLProgressElement>("loading-bar");
  const text = element("loading-text");
  let all = 0;
  const progress = (bytes: number) => {
    if (bytes < all) {
      bar.value = bytes / all;
      text.textContent = `Loading the model: ${megabytes(bytes)} of ${megabytes(all)}`;
    } else {
      bar.removeAttribute("value"); // how long that takes is not known
      text.textContent = "Preparing the model for this device";
    }
  };
  try {
    const known = (manifest: Manifest) => {
      all = manifest.bytes;
      know(manifest);
    };
    const session = await Session.open(FOLDER, wishes(), known, progress);
    announce("The model is ready");
    return { session, app: new App(session) };
  } catch (error) {
    element("title").textContent = "No model";
    showError((error as Error).message);
    throw error;
  } finally {
    element("loading").hidden = true;
  }
}

setUpTheme();
const opened = open();
opened.catch(() => undefined); // shown already
window.krypton = makeApi(opened);

/** Shows the prediction, then starts the map. Of several images the last one counts. */
let latest = 0;
function take(file: Blob): void {
  latest += 1;
  const mine = latest;
  opened
    .then(({ app }) =>
      app.guarded(async () => {
        if (mine !== latest) return;
        await app.setImage(file);
        if (mine === latest) await app.explain(app.settings);
      }),
    )
    .catch(() => undefined);
}

setUpSource(
  take,
  () =>
    void opened.then(({ app, session }) =>
      app.guarded(async () => {
        const response = await fetch(new URL(session.manifest.sample!.file, FOLDER)).catch(() => null);
        if (response === null || !response.ok) throw new Error("The sample image is missing from this site.");
        take(await response.blob());
      }),
    ),
);
