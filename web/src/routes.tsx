/** Which address shows which page, and what of a page's state lives in its address. */
import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  redirect,
} from "@tanstack/react-router";
import { sessionQuery } from "./api/session";
import type { DeploymentStatus, RequestOutcome } from "./api/types";
import type { UsageGroup, UsageMeasure, UsageRange } from "./api/usage";
import { Broken } from "./pages/shell/broken";
import { Missing } from "./pages/shell/missing";
import { Shell } from "./pages/shell/shell";
import { paths } from "./paths";

interface Context {
  queries: QueryClient;
}

type Search = Record<string, unknown>;

const word = (value: unknown): string | undefined => {
  if (typeof value === "number") return String(value);
  return typeof value === "string" && value !== "" ? value : undefined;
};
const flag = (value: unknown): true | undefined => (value === true || value === "true" ? true : undefined);
const oneOf = <T extends string>(value: unknown, all: readonly T[]): T | undefined =>
  all.find((each) => each === value);

/** Leaves out what is not set, so that addresses stay short. */
function present<T extends object>(search: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(search).filter(([, value]) => value !== undefined)) as ReturnType<
    typeof present<T>
  >;
}

const ENDPOINT_TABS = ["overview", "connection", "security", "keys", "deployments", "api"] as const;
export type EndpointTab = (typeof ENDPOINT_TABS)[number];
const GATEWAY_TABS = ["nodes", "tokens", "settings", "api"] as const;
const KEY_TABS = ["overview", "api"] as const;
const RANGES: readonly UsageRange[] = ["1h", "24h", "7d", "30d"];
const OUTCOMES: readonly RequestOutcome[] = [
  "answered",
  "refused",
  "vendor_error",
  "upstream_failed",
  "upstream_broken",
  "client_gone",
  "drained",
];
const STATUSES: readonly DeploymentStatus[] = ["deploying", "deployed", "rejected", "undeploying", "undeployed"];
const GROUPS: readonly UsageGroup[] = ["key", "endpoint", "provider", "model", "outcome"];
const MEASURES: readonly UsageMeasure[] = ["requests", "tokens", "cost"];

const endpointSearch = (search: Search) =>
  present({
    tab: oneOf(search.tab, ENDPOINT_TABS),
    deployment: word(search.deployment),
    generate: flag(search.generate),
  });
const listSearch = (search: Search) => present({ q: word(search.q) });

const root = createRootRouteWithContext<Context>()({ notFoundComponent: Missing, errorComponent: Broken });

const signIn = createRoute({
  getParentRoute: () => root,
  path: paths.signIn,
  validateSearch: (search: Search) => present({ next: word(search.next) }),
  component: lazyRouteComponent(() => import("./pages/front/sign-in"), "SignIn"),
});
const bootstrap = createRoute({
  getParentRoute: () => root,
  path: paths.bootstrap,
  component: lazyRouteComponent(() => import("./pages/front/bootstrap"), "Bootstrap"),
});

const shell = createRoute({
  getParentRoute: () => root,
  id: "shell",
  component: Shell,
  beforeLoad: async ({ context, location }) => {
    const session = await context.queries.ensureQueryData(sessionQuery);
    // The router wants a redirect thrown.

    if (session === null)
      throw redirect({ to: paths.signIn, search: location.href === "/" ? {} : { next: location.href } });
  },
});

const home = createRoute({
  getParentRoute: () => shell,
  path: paths.home,
  component: lazyRouteComponent(() => import("./pages/home/home"), "Home"),
});
const providers = createRoute({
  getParentRoute: () => shell,
  path: paths.providers,
  validateSearch: listSearch,
  component: lazyRouteComponent(() => import("./pages/endpoints/providers"), "Providers"),
});
const newProvider = createRoute({
  getParentRoute: () => shell,
  path: paths.newProvider,
  validateSearch: (search: Search) => present({ template: word(search.template) }),
  component: lazyRouteComponent(() => import("./pages/endpoints/new-provider"), "NewProvider"),
});
const provider = createRoute({
  getParentRoute: () => shell,
  path: paths.provider,
  validateSearch: endpointSearch,
  component: lazyRouteComponent(() => import("./pages/endpoints/provider"), "ProviderPage"),
});
const proxies = createRoute({
  getParentRoute: () => shell,
  path: paths.proxies,
  validateSearch: listSearch,
  component: lazyRouteComponent(() => import("./pages/endpoints/proxies"), "Proxies"),
});
const newProxy = createRoute({
  getParentRoute: () => shell,
  path: paths.newProxy,
  validateSearch: (search: Search) => present({ provider: word(search.provider) }),
  component: lazyRouteComponent(() => import("./pages/endpoints/new-proxy"), "NewProxy"),
});
const proxy = createRoute({
  getParentRoute: () => shell,
  path: paths.proxy,
  validateSearch: endpointSearch,
  component: lazyRouteComponent(() => import("./pages/endpoints/proxy"), "ProxyPage"),
});
const apiKeys = createRoute({
  getParentRoute: () => shell,
  path: paths.apiKeys,
  validateSearch: (search: Search) => present({ q: word(search.q), generate: flag(search.generate) }),
  component: lazyRouteComponent(() => import("./pages/keys/keys"), "ApiKeys"),
});
const apiKey = createRoute({
  getParentRoute: () => shell,
  path: paths.apiKey,
  validateSearch: (search: Search) => present({ tab: oneOf(search.tab, KEY_TABS) }),
  component: lazyRouteComponent(() => import("./pages/keys/key"), "ApiKeyPage"),
});
const requests = createRoute({
  getParentRoute: () => shell,
  path: paths.requests,
  validateSearch: (search: Search) =>
    present({
      endpoint: word(search.endpoint),
      key: word(search.key),
      provider: word(search.provider),
      model: word(search.model),
      outcome: oneOf(search.outcome, OUTCOMES),
      request: word(search.request),
    }),
  component: lazyRouteComponent(() => import("./pages/requests/requests"), "Requests"),
});
const usage = createRoute({
  getParentRoute: () => shell,
  path: paths.usage,
  validateSearch: (search: Search) =>
    present({
      range: oneOf(search.range, RANGES),
      by: oneOf(search.by, GROUPS),
      measure: oneOf(search.measure, MEASURES),
    }),
  component: lazyRouteComponent(() => import("./pages/usage/usage"), "Usage"),
});
const gateways = createRoute({
  getParentRoute: () => shell,
  path: paths.gateways,
  component: lazyRouteComponent(() => import("./pages/gateways/gateways"), "Gateways"),
});
const gateway = createRoute({
  getParentRoute: () => shell,
  path: paths.gateway,
  validateSearch: (search: Search) => present({ tab: oneOf(search.tab, GATEWAY_TABS) }),
  component: lazyRouteComponent(() => import("./pages/gateways/gateway"), "GatewayPage"),
});
const deployments = createRoute({
  getParentRoute: () => shell,
  path: paths.deployments,
  validateSearch: (search: Search) =>
    present({ status: oneOf(search.status, STATUSES), gateway: word(search.gateway) }),
  component: lazyRouteComponent(() => import("./pages/deployments/deployments"), "Deployments"),
});

const tree = root.addChildren([
  signIn,
  bootstrap,
  shell.addChildren([
    home,
    providers,
    newProvider,
    provider,
    proxies,
    newProxy,
    proxy,
    apiKeys,
    apiKey,
    requests,
    usage,
    gateways,
    gateway,
    deployments,
  ]),
]);

export const createConsoleRouter = (queries: QueryClient) =>
  createRouter({ routeTree: tree, context: { queries }, defaultPreload: "intent", scrollRestoration: true });

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof createConsoleRouter>;
  }
}
