/** The nouns of the REST API, generated from its OpenAPI document, in the names the console uses for them. */
import type { components } from "./schema.generated";

type Schemas = components["schemas"];

/** Members that an answer leaves out when they are empty; all others are told even where writing them is optional. */
type LeftOut =
  | "warnings"
  | "caPem"
  | "provider"
  | "limits"
  | "policies"
  | "retries"
  | "attempts"
  | "routing"
  | "total"
  | "suggestion"
  | "start"
  | "key"
  | "endpoint"
  | "model"
  | "outcome";

/** A schema as it is read: defaults are filled in by the server. */
export type Told<T> = T extends readonly (infer Item)[]
  ? Told<Item>[]
  : T extends object
    ? { [K in keyof T as K extends LeftOut ? never : K]-?: Told<T[K]> } & {
        [K in keyof T as K extends LeftOut ? K : never]: Told<T[K]>;
      }
    : T;

export interface Resource {
  id: string;
  name: string;
  revision: number;
}

export interface Page<T> {
  data: T[];
  nextCursor?: string | null | undefined;
}

export type Session = Told<Schemas["Session"]>;
export type Permission = Schemas["Permission"];
export type Template = Told<Schemas["Template"]>;
export type KeyLocation = Told<Schemas["KeyLocation"]>;
export type EndpointDeployment = Told<Schemas["CurrentDeployment"]>;
export type Provider = Told<Schemas["LlmProvider"]>;
export type ProviderInput = Schemas["LlmProviderInput"];
export type Proxy = Told<Schemas["LlmProxy"]>;
export type ProxyInput = Schemas["LlmProxyInput"];
export type ApiKey = Told<Schemas["ApiKey"]>;
/** The answer to creating or rotating a key: the only time the key itself is told. */
export type IssuedKey = ApiKey & { key: string };
export type ApiKeyInput = Schemas["ApiKeyInput"];
export type Gateway = Told<Schemas["Gateway"]>;
export type GatewayInput = Schemas["GatewayInput"];
export type GatewayToken = Told<Schemas["GatewayToken"]>;
export type Node = Told<Schemas["GatewayNode"]>;
export type Deployment = Told<Schemas["Deployment"]>;
export type DeploymentStatus = Schemas["DeploymentStatus"];
export type Usage = Told<Schemas["Usage"]>;
export type UsageRow = Told<Schemas["UsageSum"]>;
export type RequestRow = Told<Schemas["RequestEntry"]>;
export type RequestTrace = Told<Schemas["RequestTrace"]>;
export type RequestOutcome = Schemas["Outcome"];

/** What has a context, keys and an Invoke URL. */
export type Endpoint = ({ kind: "provider" } & Provider) | ({ kind: "proxy" } & Proxy);
