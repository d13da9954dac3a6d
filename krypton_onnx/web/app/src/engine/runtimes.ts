/* ONNX Runtime's builds: WebAssembly alone, or with WebGPU. Only the one that is used is downloaded. */

import type * as Ort from "onnxruntime-web";
import type { Provider } from "./protocol";
import plainScript from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import plainWasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import gpuScript from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url";
import gpuWasm from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";

export type Runtime = typeof Ort;

export async function loadRuntime(provider: Provider, threads: number): Promise<Runtime> {
  const ort: Runtime = await (provider === "webgpu"
    ? import("onnxruntime-web/webgpu")
    : import("onnxruntime-web/wasm"));
  const [script, wasm] = provider === "webgpu" ? [gpuScript, gpuWasm] : [plainScript, plainWasm];
  const absolute = (address: string) => new URL(address, import.meta.url).href;
  ort.env.wasm.wasmPaths = { mjs: absolute(script), wasm: absolute(wasm) };
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.proxy = false; // this is a worker already
  ort.env.logLevel = "error";
  return ort;
}
