/** Deployments: versions of endpoints on gateways. */
import type { QueryClient } from "@tanstack/react-query";
import { queryOptions } from "@tanstack/react-query";
import { client, unwrap } from "./client";
import { given, pages } from "./list";
import type { Deployment, DeploymentStatus } from "./types";

export interface DeploymentFilter {
  endpoint?: string | undefined;
  gateway?: string | undefined;
  status?: DeploymentStatus | undefined;
}

export const deploymentsQuery = (filter: DeploymentFilter) =>
  pages<Deployment>(["deployments", "list", given(filter)], (cursor, signal) =>
    unwrap(client.GET("/api/v1/deployments", { params: { query: given({ ...filter, cursor, limit: 50 }) }, signal })),
  );

export const deploymentQuery = (id: string) =>
  queryOptions({
    queryKey: ["deployments", "one", id],
    queryFn: ({ signal }) =>
      unwrap(client.GET("/api/v1/deployments/{deployment}", { params: { path: { deployment: id } }, signal })),
  });

/**
 * Puts a deployment that was just made where the page will look for it, and has it asked for again. A first answer that
 * is still under way when the event comes cannot be replaced; with something there already, it can.
 */
export function remember(queries: QueryClient, made: Deployment): void {
  queries.setQueryData(deploymentQuery(made.id).queryKey, made);
  void queries.invalidateQueries({ queryKey: ["deployments"] });
}

export const deploy = (endpoint: string, gateway: string): Promise<Deployment> =>
  unwrap(client.POST("/api/v1/deployments", { body: { endpoint, gateway } }));

export const undeploy = (id: string): Promise<Deployment> =>
  unwrap(client.POST("/api/v1/deployments/{deployment}/undeploy", { params: { path: { deployment: id } } }));

export const restore = (id: string): Promise<Deployment> =>
  unwrap(client.POST("/api/v1/deployments/{deployment}/restore", { params: { path: { deployment: id } } }));
