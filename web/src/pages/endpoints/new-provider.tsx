/** Adding a provider: a card, then one field. */
import { useQuery } from "@tanstack/react-query";
import { Link, getRouteApi, useNavigate } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { endpointsQuery } from "../../api/endpoints";
import { templatesQuery } from "../../api/templates";
import { ProviderForm } from "../../forms/provider-form";
import { TemplatesGrid } from "../../forms/templates-grid";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Loaded, PageSkeleton } from "../../ui/loaded";
import { Mark } from "../../ui/mark";
import { Notice } from "../../ui/notice";
import { Page } from "../../ui/page";

const m = messages.providers;
const route = getRouteApi("/shell/llm-providers/new");

export function NewProvider() {
  const { template } = route.useSearch();
  const crumb = <Link to={paths.providers}>{m.title}</Link>;
  if (template === undefined) {
    return (
      <Page title={m.newTitle} lead={m.chooseLead} crumb={crumb}>
        <TemplatesGrid />
      </Page>
    );
  }
  return <FromTemplate name={template} crumb={crumb} />;
}

function FromTemplate({ name, crumb }: { name: string; crumb: ReactNode }) {
  const navigate = useNavigate();
  const templates = useQuery(templatesQuery);
  const endpoints = useQuery(endpointsQuery);
  const template = templates.data?.find((each) => each.name === name);
  const other = (
    <Link to={paths.newProvider} className="button">
      {m.otherTemplate}
    </Link>
  );
  return (
    <Page
      narrow
      title={m.newTitle}
      crumb={crumb}
      lead={template && m.formLead(template.displayName)}
      beside={template && <Mark small name={template.displayName} />}
      actions={other}
    >
      <Loaded query={templates} skeleton={<PageSkeleton />}>
        {() =>
          template === undefined ? (
            <Notice tone="warning">
              <p>{m.unknownTemplate(name)}</p>
            </Notice>
          ) : (
            <Loaded query={endpoints} skeleton={<PageSkeleton />}>
              {(all) => (
                <div className="card card-body">
                  <ProviderForm
                    key={template.name}
                    template={template}
                    taken={new Set(all.map((each) => each.name))}
                    onDone={({ name: made, deployment }) => {
                      void navigate({
                        to: paths.provider,
                        params: { name: made },
                        search: deployment === undefined ? {} : { deployment },
                      });
                    }}
                  />
                </div>
              )}
            </Loaded>
          )
        }
      </Loaded>
    </Page>
  );
}
