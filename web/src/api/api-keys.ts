/** API keys: what opens endpoints. The key itself is told once and kept nowhere here. */
import { queryOptions } from "@tanstack/react-query";
import { client, ifMatch, unwrap } from "./client";
import { given, pages } from "./list";
import type { ApiKey, ApiKeyInput, IssuedKey } from "./types";

export const apiKeysQuery = (q = "") =>
  pages<ApiKey>(["api-keys", "list", { q }], (cursor, signal) =>
    unwrap(client.GET("/api/v1/api-keys", { params: { query: given({ q, cursor, limit: 100 }) }, signal })),
  );

export const apiKeyQuery = (id: string) =>
  queryOptions({
    queryKey: ["api-keys", "one", id],
    queryFn: ({ signal }) =>
      unwrap(client.GET("/api/v1/api-keys/{apiKey}", { params: { path: { apiKey: id } }, signal })),
  });

export const createApiKey = (body: ApiKeyInput): Promise<IssuedKey> =>
  unwrap(client.POST("/api/v1/api-keys", { body }));

export const rotateApiKey = (id: string, grace: string): Promise<IssuedKey> =>
  unwrap(client.POST("/api/v1/api-keys/{apiKey}/rotate", { params: { path: { apiKey: id } }, body: { grace } }));

export const revokeApiKey = (id: string): Promise<ApiKey> =>
  unwrap(client.POST("/api/v1/api-keys/{apiKey}/revoke", { params: { path: { apiKey: id } } }));

export const disableApiKey = (id: string, disabled: boolean): Promise<ApiKey> =>
  unwrap(client.POST("/api/v1/api-keys/{apiKey}/disable", { params: { path: { apiKey: id } }, body: { disabled } }));

export const removeApiKey = (read: ApiKey): Promise<unknown> =>
  unwrap(
    client.DELETE("/api/v1/api-keys/{apiKey}", {
      params: { path: { apiKey: read.id }, header: { "if-match": ifMatch(read.revision) } },
    }),
  );
