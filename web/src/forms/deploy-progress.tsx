/** Saved, Sent, Acked: how far a deployment has come, as it happens. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Circle, CircleCheck, CircleX, LoaderCircle } from "lucide-react";
import { deploymentQuery } from "../api/deployments";
import { useStreamState } from "../api/live";
import type { Deployment } from "../api/types";
import { messages } from "../messages";
import { paths } from "../paths";
import { Notice } from "../ui/notice";
import { ProblemPanel } from "../ui/problem-panel";

const m = messages.deploy;

type State = "done" | "now" | "later" | "failed";
const icons = { done: CircleCheck, now: LoaderCircle, later: Circle, failed: CircleX };

function Step({ state, text }: { state: State; text: string }) {
  const Icon = icons[state];
  return (
    <li className="step" data-state={state}>
      <Icon size={17} aria-hidden="true" />
      {text}
    </li>
  );
}

const unsettled = (status: string | undefined) => status === "deploying" || status === "undeploying";

export function DeployProgress({ id }: { id: string }) {
  const stream = useStreamState();
  const query = useQuery({
    ...deploymentQuery(id),
    // The stream tells; only while it is lost is the answer asked for.
    refetchInterval: ({ state }) => (stream !== "open" && unsettled(state.data?.status) ? 2_000 : false),
  });
  if (query.error !== null && query.data === undefined) {
    return <ProblemPanel error={query.error} onRetry={() => void query.refetch()} />;
  }
  return (
    <div className="card card-body" aria-busy={query.isPending || unsettled(query.data.status)}>
      <ol className="steps" aria-label={m.label} aria-live="polite">
        <Step state="done" text={m.saved} />
        <Step
          state={query.data === undefined ? "now" : "done"}
          text={query.data === undefined ? m.sending : m.sent(query.data.revision)}
        />
        <LastStep deployment={query.data} />
      </ol>
      {query.data !== undefined && <Trouble deployment={query.data} />}
    </div>
  );
}

function LastStep({ deployment }: { deployment: Deployment | undefined }) {
  switch (deployment?.status) {
    case undefined:
      return <Step state="later" text={m.waiting} />;
    case "deployed":
      return <Step state="done" text={m.acked(deployment.revision)} />;
    case "rejected":
      return <Step state="failed" text={m.rejected} />;
    case "undeployed":
      return <Step state="done" text={m.undeployed} />;
    case "deploying":
    case "undeploying": {
      const { acked, nodes } = deployment.progress;
      const text = nodes === 0 ? m.waiting : `${m.waiting} · ${m.progress(acked, nodes)}`;
      return <Step state="now" text={text} />;
    }
  }
}

function Trouble({ deployment }: { deployment: Deployment }) {
  const link = (
    <Link to={paths.gateway} params={{ name: deployment.gateway }}>
      {m.toGateway}
    </Link>
  );
  if (deployment.rejection) {
    const { pointer, message } = deployment.rejection;
    return (
      <Notice tone="danger" title={m.rejected}>
        <p>
          <code>{pointer}</code> {message}
        </p>
        <p>
          {m.rejectedText} {link}
        </p>
      </Notice>
    );
  }
  if (deployment.status === "deploying" && deployment.progress.nodes === 0) {
    return (
      <Notice tone="warning">
        <p>
          {m.noNodes(deployment.gateway)} {link}
        </p>
      </Notice>
    );
  }
  return null;
}
