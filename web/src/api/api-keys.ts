/** API keys: what opens endpoints. The key itself is told once and kept nowhere here. */
import { queryOptions } from "@tanstack/react-query";
import { client, ifMatch, unwrap } from "./client";
import { given, pages } from "./list";
import type { ApiKey, IssuedKey, Page } from "./types";

export const apiKeysQuery = (q = "") =>
  pages<ApiKey>(["api-keys", "list", { q }], (cursor, signal) =>
    unwrap<Page<ApiKey>>(
      client.GET("/api/v1/api-keys", { params: { query: given({ q, cursor, limit: 100 }) }, signal }),
    ),
  );

export const apiKeyQuery = (id: string) =>
  queryOptions({
    queryKey: ["api-keys", "one", id],
    queryFn: ({ signal }) =>
      unwrap<ApiKey>(client.GET("/api/v1/api-keys/{key}", { params: { path: { key: id } }, signal })),
  });

export interface NewApiKey {
  name: string;
  endpoints: string[];
  /** A duration such as `90d`; without it the key never expires. */
  expiresIn?: string;
}

export const createApiKey = (body: NewApiKey): Promise<IssuedKey> =>
  unwrap<IssuedKey>(client.POST("/api/v1/api-keys", { body }));

export const rotateApiKey = (id: string, grace: string): Promise<IssuedKey> =>
  unwrap<IssuedKey>(client.POST("/api/v1/api-keys/{key}/rotate", { params: { path: { key: id } }, body: { grace } }));

export const revokeApiKey = (id: string): Promise<ApiKey> =>
  unwrap<ApiKey>(client.POST("/api/v1/api-keys/{key}/revoke", { params: { path: { key: id } } }));

export const disableApiKey = (id: string, disabled: boolean): Promise<ApiKey> =>
  unwrap<ApiKey>(client.POST("/api/v1/api-keys/{key}/disable", { params: { path: { key: id } }, body: { disabled } }));

export const removeApiKey = (read: ApiKey): Promise<unknown> =>
  unwrap<unknown>(
    client.DELETE("/api/v1/api-keys/{key}", {
      params: { path: { key: read.id }, header: { "If-Match": ifMatch(read.revision) } },
    }),
  );
