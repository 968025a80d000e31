/** What an endpoint is doing, in one badge. */
import type { EndpointDeployment } from "../api/types";
import { messages } from "../messages";
import { Badge } from "../ui/badge";
import type { Tone } from "../ui/badge";

const m = messages.endpoint.status;

interface Status {
  tone: Tone;
  text: string;
  busy?: boolean;
}

interface Like {
  disabled: boolean;
  pendingChanges: boolean;
  deployments: readonly EndpointDeployment[];
}

/** The most pressing thing there is to say. */
export function statusOf({ disabled, pendingChanges, deployments }: Like): Status {
  if (disabled) return { tone: "neutral", text: m.disabled };
  const is = (status: string) => deployments.find((deployment) => deployment.status === status);
  if (is("rejected")) return { tone: "danger", text: m.rejected };
  if (is("deploying")) return { tone: "accent", text: m.deploying, busy: true };
  if (is("undeploying")) return { tone: "accent", text: m.undeploying, busy: true };
  const live = is("deployed");
  if (live === undefined) return { tone: "neutral", text: m.notDeployed };
  if (pendingChanges) return { tone: "warning", text: m.pending };
  return { tone: "success", text: m.live(live.version) };
}

export function EndpointStatus({ endpoint }: { endpoint: Like }) {
  const { tone, text, busy } = statusOf(endpoint);
  return (
    <Badge tone={tone} busy={busy ?? false}>
      {text}
    </Badge>
  );
}
