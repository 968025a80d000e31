/** LLM providers: connections to vendor accounts. */
import { queryOptions } from "@tanstack/react-query";
import { client, ifMatch, unwrap } from "./client";
import { authored, given, pages } from "./list";
import type { KeyLocation, Page, Provider, Timeouts } from "./types";

export const providersQuery = (q = "") =>
  pages<Provider>(["providers", "list", { q }], (cursor, signal) =>
    unwrap<Page<Provider>>(
      client.GET("/api/v1/llm-providers", { params: { query: given({ q, cursor, limit: 50 }) }, signal }),
    ),
  );

export const loadProvider = (name: string, signal?: AbortSignal): Promise<Provider> =>
  unwrap<Provider>(
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

export interface NewProvider {
  name: string;
  template: string;
  context: string;
  upstream: { url?: string; credential?: { value: string } };
  displayName?: string;
}

export const createProvider = (body: NewProvider): Promise<Provider> =>
  unwrap<Provider>(client.POST("/api/v1/llm-providers", { body }));

/** What of a provider may be changed; what is left out stays as it was read. */
export interface ProviderChange {
  displayName?: string;
  description?: string;
  context?: string;
  disabled?: boolean;
  timeouts?: Timeouts;
  security?: { apiKey: { locations: KeyLocation[] } };
  upstream?: { url: string; caPem?: string; credential?: { value: string } | { secret: string } };
}

/** Replaces a provider, provided nobody changed it since it was read. */
export const replaceProvider = (read: Provider, change: ProviderChange): Promise<Provider> =>
  unwrap<Provider>(
    client.PUT("/api/v1/llm-providers/{provider}", {
      params: { path: { provider: read.name }, header: { "If-Match": ifMatch(read.revision) } },
      body: { ...authored(read), ...change },
    }),
  );

export const removeProvider = (read: Provider): Promise<unknown> =>
  unwrap<unknown>(
    client.DELETE("/api/v1/llm-providers/{provider}", {
      params: { path: { provider: read.name }, header: { "If-Match": ifMatch(read.revision) } },
    }),
  );
