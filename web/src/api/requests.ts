/** The request log: one row per authenticated request, newest first. */
import { queryOptions } from "@tanstack/react-query";
import { client, unwrap } from "./client";
import { given, pages } from "./list";
import type { RequestOutcome, RequestRow } from "./types";

export interface RequestFilter {
  endpoint?: string | undefined;
  key?: string | undefined;
  provider?: string | undefined;
  model?: string | undefined;
  outcome?: RequestOutcome | undefined;
}

export const requestsQuery = (filter: RequestFilter, limit = 50) =>
  pages<RequestRow>(["requests", "list", given(filter), limit], (cursor, signal) =>
    unwrap(client.GET("/api/v1/requests", { params: { query: given({ ...filter, cursor, limit }) }, signal })),
  );

/** Everything known about one request, by the id that its client saw. */
export const requestQuery = (id: string) =>
  queryOptions({
    queryKey: ["requests", "one", id],
    queryFn: ({ signal }) => unwrap(client.GET("/api/v1/requests/{id}", { params: { path: { id } }, signal })),
  });

/** Whether a row belongs to a filtered list. */
export const matches = (row: RequestRow, filter: RequestFilter): boolean =>
  (filter.endpoint === undefined || row.endpoint === filter.endpoint) &&
  (filter.key === undefined || row.key === filter.key) &&
  (filter.provider === undefined || row.provider === filter.provider) &&
  (filter.model === undefined || (row.servedModel ?? row.requestedModel) === filter.model) &&
  (filter.outcome === undefined || row.outcome === filter.outcome);
