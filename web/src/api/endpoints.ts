/** Providers and proxies together: whatever has a context, keys and an Invoke URL. */
import { queryOptions } from "@tanstack/react-query";
import { client, unwrap } from "./client";
import { given } from "./list";
import { providerOf } from "./proxies";
import type { Endpoint, Page, Provider, Proxy } from "./types";

async function everything<T>(load: (cursor: string | undefined) => Promise<Page<T>>): Promise<T[]> {
  const all: T[] = [];
  let cursor: string | undefined;
  do {
    const page = await load(cursor);
    all.push(...page.data);
    cursor = page.nextCursor ?? undefined;
  } while (cursor !== undefined);
  return all;
}

/** All endpoints of the organization, by name. */
export const endpointsQuery = queryOptions({
  queryKey: ["providers", "endpoints"],
  queryFn: async ({ signal }): Promise<Endpoint[]> => {
    const query = (cursor: string | undefined) => ({ params: { query: given({ cursor, limit: 100 }) }, signal });
    const [providers, proxies] = await Promise.all([
      everything<Provider>((cursor) => unwrap(client.GET("/api/v1/llm-providers", query(cursor)))),
      everything<Proxy>((cursor) => unwrap(client.GET("/api/v1/llm-proxies", query(cursor)))),
    ]);
    const all: Endpoint[] = [
      ...providers.map((provider) => ({ kind: "provider" as const, ...provider })),
      ...proxies.map((proxy) => ({ kind: "proxy" as const, ...proxy })),
    ];
    return all.toSorted((a, b) => a.name.localeCompare(b.name));
  },
});

/** The template an endpoint is spoken by: a provider's own, or that of the provider behind a proxy. */
export function templateName(endpoint: Endpoint, all: readonly Endpoint[]): string | undefined {
  if (endpoint.kind === "provider") return endpoint.template;
  const provider = providerOf(endpoint);
  const behind = all.find((each) => each.kind === "provider" && (each.name === provider || each.id === provider));
  return behind?.kind === "provider" ? behind.template : undefined;
}
