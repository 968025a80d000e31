/** The first tab of an endpoint: where to call it, how, and whether anybody has. */
import { Link } from "@tanstack/react-router";
import { KeyRound } from "lucide-react";
import { providersOf } from "../../api/proxies";
import type { Endpoint } from "../../api/types";
import { DeployProgress } from "../../forms/deploy-progress";
import { LiveRequests } from "../../forms/live-requests";
import { useDenied } from "../../forms/session";
import { SnippetPanel } from "../../forms/snippet-panel";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Button } from "../../ui/button";
import { Copyable } from "../../ui/copy";
import { Time } from "../../ui/time";

const m = messages.endpoint;

interface OverviewProps {
  endpoint: Endpoint;
  /** A deployment that was just sent. */
  deployment: string | undefined;
  onGenerate: () => void;
}

export function Overview({ endpoint, deployment, onGenerate }: OverviewProps) {
  const denied = useDenied("keys:write");
  const generate = (
    <Button variant="primary" reason={denied} onClick={onGenerate}>
      <KeyRound size={15} aria-hidden="true" />
      {messages.keys.generate}
    </Button>
  );
  return (
    <div className="stack-wide">
      {deployment !== undefined && <DeployProgress id={deployment} />}
      <div className="columns">
        <div className="stack-wide">
          <section className="card card-body">
            {endpoint.invokeUrls.length === 0 && (
              <>
                <h2>{m.invokeUrl}</h2>
                <NoInvokeUrl endpoint={endpoint} />
              </>
            )}
            {endpoint.invokeUrls.map(({ gateway, url }) => (
              <div key={`${gateway} ${url}`} className="stack-tight">
                <h2>{endpoint.invokeUrls.length === 1 ? m.invokeUrl : m.invokeUrlOn(gateway)}</h2>
                <Copyable value={url} label={m.invokeUrlOn(gateway)} />
              </div>
            ))}
          </section>
          <section className="card card-body">
            <div className="row-between">
              <div className="grow">
                <h2>{m.quickStart}</h2>
                <p className="muted">{m.quickStartText}</p>
              </div>
              {generate}
            </div>
            <SnippetPanel endpoint={endpoint} />
          </section>
        </div>
        <section className="card card-body">
          <h2>{m.facts}</h2>
          <Facts endpoint={endpoint} />
        </section>
      </div>
      <LiveRequests endpoint={endpoint.name} />
    </div>
  );
}

function Facts({ endpoint }: { endpoint: Endpoint }) {
  return (
    <dl className="facts facts-narrow">
      <dt>{m.name}</dt>
      <dd className="mono">{endpoint.name}</dd>
      {endpoint.kind === "provider" ? (
        <>
          <dt>{m.template}</dt>
          <dd>{endpoint.template}</dd>
          <dt>{m.upstream}</dt>
          <dd className="mono">{endpoint.upstream.url}</dd>
          <dt>{m.credential}</dt>
          <dd>{m.credentialState(endpoint.upstream.credential)}</dd>
        </>
      ) : (
        <>
          <dt>{m.provider}</dt>
          {providersOf(endpoint).map((name) => (
            <dd key={name}>
              <Link to={paths.provider} params={{ name }}>
                {name}
              </Link>
            </dd>
          ))}
        </>
      )}
      <dt>{m.context}</dt>
      <dd className="mono">{endpoint.context}</dd>
      <dt>{m.revision}</dt>
      <dd className="number">{endpoint.revision}</dd>
      <dt>{m.created}</dt>
      <dd>
        <Time value={endpoint.createdAt} />
      </dd>
      <dt>{m.updated}</dt>
      <dd>
        <Time value={endpoint.updatedAt} />
      </dd>
    </dl>
  );
}

/** Why there is no address to call yet, and what helps. */
function NoInvokeUrl({ endpoint }: { endpoint: Endpoint }) {
  const deployed = endpoint.deployments.find((each) => each.status === "deployed" || each.status === "deploying");
  if (deployed === undefined) return <p className="muted">{m.noInvokeUrl}</p>;
  return (
    <p className="muted">
      {m.noBaseUrl(deployed.gateway)}{" "}
      <Link to={paths.gateway} params={{ name: deployed.gateway }} search={{ tab: "settings" }}>
        {m.addBaseUrl}
      </Link>
    </p>
  );
}
