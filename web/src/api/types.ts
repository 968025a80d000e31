/** The nouns of the REST API, in the names the console uses for them. */

export interface Resource {
  id: string;
  name: string;
  revision: number;
  createdAt: string;
  updatedAt: string;
}

export interface Page<T> {
  data: T[];
  nextCursor?: string | null | undefined;
}

export interface Session {
  user: { id: string; email: string; displayName?: string | null; role: string };
  organization: { id: string; name: string };
  expiresAt: string;
  permissions: string[];
}

export interface KeyLocation {
  in: "header" | "query";
  name: string;
  prefix?: string;
}

export interface Template {
  id: string;
  name: string;
  displayName: string;
  dialect: string;
  defaultUpstreamUrl?: string | null;
  upstreamUrlExample?: string;
  credential: { header: string; prefix?: string };
  keyLocations: KeyLocation[];
  sampleModel?: string | null;
  version: number;
}

export interface EndpointDeployment {
  id: string;
  gateway: string;
  version: number;
  status: DeploymentStatus;
}

export interface Timeouts {
  connect: string;
  firstByte: string;
  idle: string;
}

export interface Warning {
  pointer: string;
  code: string;
  message: string;
}

interface EndpointBase extends Resource {
  displayName?: string | null;
  description?: string | null;
  context: string;
  disabled: boolean;
  security: { apiKey: { locations: KeyLocation[] } };
  timeouts: Timeouts;
  pendingChanges: boolean;
  invokeUrls: { gateway: string; url: string }[];
  deployments: EndpointDeployment[];
  warnings?: Warning[];
}

export interface Provider extends EndpointBase {
  template: string;
  upstream: { url: string; credential?: { secret: string; last4?: string | null } | null; caPem?: string | null };
}

export interface Proxy extends EndpointBase {
  provider?: string | null;
  targets?: { provider: string }[];
}

export interface ApiKey extends Resource {
  display: string;
  endpoints: string[];
  status: "active" | "disabled" | "revoked" | "expired";
  expiresAt?: string | null;
  lastUsedAt?: string | null;
}

/** The answer to creating or rotating a key: the only time the key itself is told. */
export interface IssuedKey extends ApiKey {
  key: string;
}

export interface Gateway extends Resource {
  displayName?: string | null;
  baseUrls: string[];
  upstreamNetworks: string[];
}

export interface GatewayToken {
  id: string;
  display?: string;
  token?: string;
  createdAt?: string;
  expiresAt?: string | null;
}

export interface Rejection {
  kind: string;
  resource: string;
  name?: string | null;
  pointer: string;
  code: string;
  message: string;
  revision: number;
  since?: string | null;
}

export interface Node {
  id: string;
  name: string;
  version: string;
  status: "connected" | "applying" | "stale" | "draining" | "disconnected";
  revision: number;
  connectedAt?: string | null;
  lastSeenAt?: string | null;
  ackedAt?: string | null;
  rejected: Rejection[];
}

export type DeploymentStatus = "deploying" | "deployed" | "rejected" | "undeploying" | "undeployed";

export interface Deployment {
  id: string;
  endpoint: string;
  endpointKind: string;
  gateway: string;
  version: number;
  status: DeploymentStatus;
  revision: number;
  createdAt: string;
  createdBy?: string | null;
  deployedAt?: string | null;
  rejection?: Rejection | null;
  progress: { nodes: number; acked: number };
}

export interface UsageRow {
  key?: string | null;
  endpoint?: string | null;
  provider?: string | null;
  model?: string | null;
  outcome?: string | null;
  start?: string | null;
  requests: number;
  refused: number;
  errors: number;
  inputTokens: number;
  outputTokens: number;
  unknownTokenRequests: number;
}

export interface Usage {
  data: UsageRow[];
  from: string;
  to: string;
}

export interface RequestRow {
  id: string;
  at: string;
  endpoint?: string | null;
  provider?: string | null;
  key?: string | null;
  outcome: string;
  status?: number | null;
  requestedModel?: string | null;
  servedModel?: string | null;
  inputTokens?: number | null;
  outputTokens?: number | null;
  durationMs: number;
  firstByteMs?: number | null;
  streamed: boolean;
  path?: string | null;
  method?: string | null;
  refusal?: string | null;
  node?: string | null;
}

export type EndpointKind = "provider" | "proxy";
/** What has a context, keys and an Invoke URL. */
export type Endpoint = ({ kind: "provider" } & Provider) | ({ kind: "proxy" } & Proxy);
