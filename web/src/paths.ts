/** Every address of the console, in one place. */
export const paths = {
  home: "/",
  signIn: "/sign-in",
  bootstrap: "/bootstrap",
  providers: "/llm-providers",
  newProvider: "/llm-providers/new",
  provider: "/llm-providers/$name",
  proxies: "/llm-proxies",
  newProxy: "/llm-proxies/new",
  proxy: "/llm-proxies/$name",
  apiKeys: "/api-keys",
  apiKey: "/api-keys/$id",
  requests: "/requests",
  usage: "/usage",
  gateways: "/gateways",
  gateway: "/gateways/$name",
  deployments: "/deployments",
} as const;
