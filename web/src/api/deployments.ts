/** Deployments: versions of endpoints on gateways. */
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

export const deploy = (endpoint: string, gateway: string): Promise<Deployment> =>
  unwrap(client.POST("/api/v1/deployments", { body: { endpoint, gateway } }));

export const undeploy = (id: string): Promise<Deployment> =>
  unwrap(client.POST("/api/v1/deployments/{deployment}/undeploy", { params: { path: { deployment: id } } }));

export const restore = (id: string): Promise<Deployment> =>
  unwrap(client.POST("/api/v1/deployments/{deployment}/restore", { params: { path: { deployment: id } } }));
