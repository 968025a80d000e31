/** LLM proxies: endpoints of one app or agent over a provider. */
import { queryOptions } from "@tanstack/react-query";
import { client, ifMatch, unwrap } from "./client";
import { authored, given, pages } from "./list";
import type { Proxy, ProxyInput } from "./types";

export const proxiesQuery = (q = "") =>
  pages<Proxy>(["proxies", "list", { q }], (cursor, signal) =>
    unwrap(client.GET("/api/v1/llm-proxies", { params: { query: given({ q, cursor, limit: 50 }) }, signal })),
  );

export const loadProxy = (name: string, signal?: AbortSignal): Promise<Proxy> =>
  unwrap(
    client.GET("/api/v1/llm-proxies/{proxy}", {
      params: { path: { proxy: name } },
      ...(signal === undefined ? {} : { signal }),
    }),
  );

export const proxyQuery = (name: string) =>
  queryOptions({
    queryKey: ["proxies", "one", name],
    queryFn: ({ signal }) => loadProxy(name, signal),
  });

/** The provider behind a proxy. */
export const providerOf = (proxy: Proxy): string => proxy.provider ?? proxy.targets?.[0]?.provider ?? "";

/** All providers behind a proxy. */
export const providersOf = (proxy: Proxy): string[] =>
  proxy.targets?.length ? proxy.targets.map(({ provider }) => provider) : [providerOf(proxy)];

/** Whether several providers stand behind a proxy. */
export const isShared = (proxy: Proxy): boolean => (proxy.targets?.length ?? 0) > 1;

export const createProxy = (body: ProxyInput): Promise<Proxy> => unwrap(client.POST("/api/v1/llm-proxies", { body }));

/** What of a proxy may be changed; what is left out stays as it was read. */
export type ProxyChange = Partial<Omit<ProxyInput, "name">>;

/** Replaces a proxy, provided nobody changed it since it was read. */
export const replaceProxy = (read: Proxy, change: ProxyChange): Promise<Proxy> =>
  unwrap(
    client.PUT("/api/v1/llm-proxies/{proxy}", {
      params: { path: { proxy: read.name }, header: { "if-match": ifMatch(read.revision) } },
      body: { ...authored(read), ...change },
    }),
  );

export const removeProxy = (read: Proxy): Promise<unknown> =>
  unwrap(
    client.DELETE("/api/v1/llm-proxies/{proxy}", {
      params: { path: { proxy: read.name }, header: { "if-match": ifMatch(read.revision) } },
    }),
  );
