/** What the form of a connection is filled with and what it sends: what it does not show stays as it was read. */
import { isShared, providerOf } from "../api/proxies";
import type { Endpoint } from "../api/types";
import type { EndpointChange } from "./endpoint-change";
import { commonChange, commonValues } from "./endpoint-fields";
import type { CommonValues } from "./endpoint-fields";

export interface ConnectionValues extends CommonValues {
  url: string;
  credential: string;
  provider: string;
}

export const valuesOf = (read: Endpoint): ConnectionValues => ({
  ...commonValues(read),
  url: read.kind === "provider" ? read.upstream.url : "",
  credential: "",
  provider: read.kind === "proxy" ? providerOf(read) : "",
});

export function changeOf(read: Endpoint, values: ConnectionValues): EndpointChange {
  const common = commonChange(values);
  if (read.kind === "proxy") return isShared(read) ? common : { ...common, provider: values.provider, targets: [] };
  const stored = read.upstream.credential;
  const credential =
    values.credential !== "" ? { value: values.credential } : stored ? { secret: stored.secret } : undefined;
  return {
    ...common,
    upstream: {
      url: values.url,
      ...(read.upstream.caPem ? { caPem: read.upstream.caPem } : {}),
      ...(credential === undefined ? {} : { credential }),
    },
  };
}
