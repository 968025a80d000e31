/** From nothing to the first request, with the next thing to do at hand. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Check } from "lucide-react";
import type { ReactNode } from "react";
import { apiKeysQuery } from "../../api/api-keys";
import { endpointsQuery } from "../../api/endpoints";
import type { Endpoint } from "../../api/types";
import { TemplatesGrid } from "../../forms/templates-grid";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Loaded, PageSkeleton } from "../../ui/loaded";

const m = messages.home;

function OpenEndpoint({ endpoint, generate }: { endpoint: Endpoint; generate?: true }) {
  return (
    <div className="row">
      <Link
        to={endpoint.kind === "provider" ? paths.provider : paths.proxy}
        params={{ name: endpoint.name }}
        search={generate ? { generate } : {}}
        className="button button-primary"
      >
        {generate ? messages.keys.generate : m.openProvider(endpoint.name)}
      </Link>
    </div>
  );
}

export function Checklist() {
  const endpoints = useQuery(endpointsQuery);
  const keys = useInfiniteQuery(apiKeysQuery());
  return (
    <Loaded query={endpoints} skeleton={<PageSkeleton />}>
      {(all) => {
        const deployed = all.find((endpoint) => endpoint.invokeUrls.length > 0);
        const first = deployed ?? all[0];
        const hasKey = keys.data?.pages.some((page) => page.data.length > 0) === true;
        const done = [first !== undefined, deployed !== undefined, hasKey, false];
        const now = done.indexOf(false);
        const open = first === undefined ? null : <OpenEndpoint endpoint={first} />;
        const steps: { title: string; text: string; action: ReactNode }[] = [
          { title: m.steps.provider, text: m.steps.providerText, action: <TemplatesGrid /> },
          { title: m.steps.deploy, text: m.steps.deployText, action: open },
          {
            title: m.steps.key,
            text: m.steps.keyText,
            action: first === undefined ? null : <OpenEndpoint endpoint={first} generate />,
          },
          { title: m.steps.request, text: m.steps.requestText, action: open },
        ];
        return (
          <ol className="card checklist" aria-label={m.checklist}>
            {steps.map((step, index) => (
              <li key={step.title} data-state={done[index] ? "done" : index === now ? "now" : "later"}>
                <span className="check">
                  {done[index] ? <Check size={15} aria-label={messages.yes} /> : String(index + 1)}
                </span>
                <div className="stack">
                  <div>
                    <h2>{step.title}</h2>
                    <p className="muted">{step.text}</p>
                  </div>
                  {index === now && step.action}
                </div>
              </li>
            ))}
          </ol>
        );
      }}
    </Loaded>
  );
}
