import { defineConfig } from "vitest/config";

export default defineConfig({
  // All addresses are relative, so the site works under any path.
  base: "./",
  // ONNX Runtime's WebAssembly files are files of the site (see src/engine/runtimes.ts), not part of the script.
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "development|production"] },
  worker: { format: "es" },
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // nothing as a data: address, which a strict content security policy would refuse
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1500,
  },
  test: { environment: "node", include: ["test/**/*.test.ts"] },
});
