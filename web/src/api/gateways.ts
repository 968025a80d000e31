/** Gateways and their nodes: where endpoints are served, and what each process has applied. */
import { queryOptions } from "@tanstack/react-query";
import { client, ifMatch, unwrap } from "./client";
import { authored } from "./list";
import type { Gateway, GatewayInput } from "./types";

export const gatewaysQuery = queryOptions({
  queryKey: ["gateways", "list"],
  queryFn: async ({ signal }) => {
    const page = await unwrap(client.GET("/api/v1/gateways", { params: { query: { limit: 100 } }, signal }));
    return page.data;
  },
});

export const loadGateway = (name: string, signal?: AbortSignal): Promise<Gateway> =>
  unwrap(
    client.GET("/api/v1/gateways/{gateway}", {
      params: { path: { gateway: name } },
      ...(signal === undefined ? {} : { signal }),
    }),
  );

export const gatewayQuery = (name: string) =>
  queryOptions({
    queryKey: ["gateways", "one", name],
    queryFn: ({ signal }) => loadGateway(name, signal),
  });

export const nodesQuery = (gateway: string) =>
  queryOptions({
    queryKey: ["gateways", "nodes", gateway],
    queryFn: async ({ signal }) => {
      const page = await unwrap(
        client.GET("/api/v1/gateways/{gateway}/nodes", { params: { path: { gateway } }, signal }),
      );
      return page.data;
    },
  });

export type GatewayChange = Partial<Omit<GatewayInput, "name">>;

export const replaceGateway = (read: Gateway, change: GatewayChange): Promise<Gateway> =>
  unwrap(
    client.PUT("/api/v1/gateways/{gateway}", {
      params: { path: { gateway: read.name }, header: { "if-match": ifMatch(read.revision) } },
      body: { ...authored(read), ...change },
    }),
  );

export const gatewayTokensQuery = (gateway: string) =>
  queryOptions({
    queryKey: ["gateways", "tokens", gateway],
    queryFn: async ({ signal }) => {
      const page = await unwrap(
        client.GET("/api/v1/gateways/{gateway}/tokens", { params: { path: { gateway } }, signal }),
      );
      return page.data;
    },
  });

export const createGatewayToken = (gateway: string) =>
  unwrap(client.POST("/api/v1/gateways/{gateway}/tokens", { params: { path: { gateway } }, body: {} }));

export const removeGatewayToken = (gateway: string, token: string): Promise<unknown> =>
  unwrap(client.DELETE("/api/v1/gateways/{gateway}/tokens/{token}", { params: { path: { gateway, token } } }));
