/** Tokens that travel in the fragment of an address: never sent to a server, and gone from the address once read. */

/** Reads `#token=...` and takes it out of the address bar and the history. */
export function takeToken(): string | undefined {
  const token = new URLSearchParams(globalThis.location.hash.slice(1)).get("token");
  if (token === null || token === "") return undefined;
  globalThis.history.replaceState(
    globalThis.history.state,
    "",
    globalThis.location.pathname + globalThis.location.search,
  );
  return token;
}

/** Only addresses of our own are gone on to. */
export const isOwnAddress = (next: string | undefined): next is string =>
  next !== undefined && next.startsWith("/") && !next.startsWith("//") && !next.startsWith("/\\");
