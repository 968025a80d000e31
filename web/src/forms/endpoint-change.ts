/** Changing, removing and deploying a provider or a proxy, whichever it is. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { deploy, remember } from "../api/deployments";
import { loadProvider, providerQuery, removeProvider, replaceProvider } from "../api/providers";
import type { ProviderChange } from "../api/providers";
import { loadProxy, proxyQuery, removeProxy, replaceProxy } from "../api/proxies";
import type { ProxyChange } from "../api/proxies";
import type { Endpoint } from "../api/types";
import { useRemoval } from "./removal";
import { useReplace } from "./replace";

export type EndpointChange = ProviderChange & ProxyChange;

async function replaceEndpoint(read: Endpoint, change: EndpointChange): Promise<Endpoint> {
  if (read.kind === "provider") return { kind: "provider", ...(await replaceProvider(read, change)) };
  return { kind: "proxy", ...(await replaceProxy(read, change)) };
}

async function loadEndpoint(read: Endpoint): Promise<Endpoint> {
  if (read.kind === "provider") return { kind: "provider", ...(await loadProvider(read.name)) };
  return { kind: "proxy", ...(await loadProxy(read.name)) };
}

export const endpointKey = (read: Endpoint): readonly unknown[] =>
  read.kind === "provider" ? providerQuery(read.name).queryKey : proxyQuery(read.name).queryKey;

export const useReplaceEndpoint = (
  endpoint: Endpoint,
  then: { onError?: (error: unknown) => void; onSaved?: (saved: Endpoint) => void } = {},
) =>
  useReplace<Endpoint, EndpointChange>({
    queryKey: endpointKey(endpoint),
    replace: replaceEndpoint,
    load: () => loadEndpoint(endpoint),
    ...then,
  });

export const useRemoveEndpoint = (leave: () => unknown) =>
  useRemoval(
    ["providers", "proxies"],
    (read: Endpoint) => (read.kind === "provider" ? removeProvider(read) : removeProxy(read)),
    leave,
  );

export function useDeploy(onSent: (deployment: string) => void) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({ endpoint, gateway }: { endpoint: string; gateway: string }) => deploy(endpoint, gateway),
    onSuccess: (made) => {
      remember(queries, made);
      onSent(made.id);
    },
  });
}
