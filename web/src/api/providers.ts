/** LLM providers: connections to vendor accounts. */
import { queryOptions } from "@tanstack/react-query";
import { client, ifMatch, unwrap } from "./client";
import { authored, given, pages } from "./list";
import type { Provider, ProviderInput } from "./types";

export const providersQuery = (q = "") =>
  pages<Provider>(["providers", "list", { q }], (cursor, signal) =>
    unwrap(client.GET("/api/v1/llm-providers", { params: { query: given({ q, cursor, limit: 50 }) }, signal })),
  );

export const loadProvider = (name: string, signal?: AbortSignal): Promise<Provider> =>
  unwrap(
    client.GET("/api/v1/llm-providers/{provider}", {
      params: { path: { provider: name } },
      ...(signal === undefined ? {} : { signal }),
    }),
  );

export const providerQuery = (name: string) =>
  queryOptions({
    queryKey: ["providers", "one", name],
    queryFn: ({ signal }) => loadProvider(name, signal),
  });

export const createProvider = (body: ProviderInput): Promise<Provider> =>
  unwrap(client.POST("/api/v1/llm-providers", { body }));

/** What of a provider may be changed; what is left out stays as it was read. */
export type ProviderChange = Partial<Omit<ProviderInput, "name">>;

/** Replaces a provider, provided nobody changed it since it was read. */
export const replaceProvider = (read: Provider, change: ProviderChange): Promise<Provider> =>
  unwrap(
    client.PUT("/api/v1/llm-providers/{provider}", {
      params: { path: { provider: read.name }, header: { "if-match": ifMatch(read.revision) } },
      body: { ...authored(read), ...change },
    }),
  );

export const removeProvider = (read: Provider): Promise<unknown> =>
  unwrap(
    client.DELETE("/api/v1/llm-providers/{provider}", {
      params: { path: { provider: read.name }, header: { "if-match": ifMatch(read.revision) } },
    }),
  );
