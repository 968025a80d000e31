/** How the console is built: hashed assets, nothing inlined (the content security policy forbids it), fonts of our own. */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const api = process.env.LOCKGATE_API ?? "http://127.0.0.1:9080";

export default defineConfig({
  plugins: [react()],
  build: {
    target: ["chrome123", "firefox128", "safari17.5"],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    reportCompressedSize: false,
  },
  server: {
    port: 5173,
    strictPort: true,
    // The session cookie and the same-origin rule want one origin: the API is reached through the development server,
    // which speaks to it in the API's own name.
    proxy: {
      "/api": { target: api, changeOrigin: true, headers: { origin: api } },
      "/openapi.json": { target: api, changeOrigin: true },
      "/version": { target: api, changeOrigin: true },
    },
  },
  test: {
    environment: "happy-dom",
    include: ["test/unit/**/*.test.ts"],
  },
});
