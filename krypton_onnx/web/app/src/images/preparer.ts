/* Pictures prepared by a worker, one worker for all. */

import type { Preparation } from "../manifest";
import type { Prepared } from "./prepare";
import type { PictureRequest } from "./worker";

type Reply = { id: number; prepared: Prepared } | { id: number; error: string };

let worker: Worker | null = null;
let last = 0;

/** Rejects with an Error of one line where the file is no picture that can be used. */
export function prepareFile(file: Blob, preparation: Preparation): Promise<Prepared> {
  worker ??= new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  const used = worker;
  last += 1;
  const id = last;
  return new Promise((resolve, reject) => {
    const listen = ({ data }: MessageEvent<Reply>) => {
      if (data.id !== id) return;
      used.removeEventListener("message", listen);
      if ("prepared" in data) resolve(data.prepared);
      else reject(new Error(data.error));
    };
    used.addEventListener("message", listen);
    used.addEventListener("error", () => reject(new Error("The image cannot be read: its worker stopped.")), {
      once: true,
    });
    used.postMessage({ id, file, preparation } satisfies PictureRequest);
  });
}
