/** Adding a proxy over a provider. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, getRouteApi, useNavigate } from "@tanstack/react-router";
import { endpointsQuery } from "../../api/endpoints";
import { providersQuery } from "../../api/providers";
import { ProxyForm } from "../../forms/proxy-form";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Empty } from "../../ui/empty";
import { Loaded, PageSkeleton } from "../../ui/loaded";
import { Page } from "../../ui/page";

const m = messages.proxies;
const route = getRouteApi("/shell/llm-proxies/new");

export function NewProxy() {
  const { provider } = route.useSearch();
  const navigate = useNavigate();
  const providers = useInfiniteQuery(providersQuery());
  const endpoints = useQuery(endpointsQuery);
  return (
    <Page narrow title={m.newTitle} lead={m.formLead} crumb={<Link to={paths.proxies}>{m.title}</Link>}>
      <Loaded query={providers} skeleton={<PageSkeleton />}>
        {({ pages }) => {
          const all = pages.flatMap((page) => page.data);
          if (all.length === 0) {
            return (
              <Empty
                sentence={m.needsProvider}
                action={
                  <Link to={paths.newProvider} className="button button-primary">
                    {messages.providers.add}
                  </Link>
                }
              />
            );
          }
          return (
            <Loaded query={endpoints} skeleton={<PageSkeleton />}>
              {(known) => (
                <div className="card card-body">
                  <ProxyForm
                    providers={all}
                    provider={provider}
                    taken={new Set(known.map((each) => each.name))}
                    onDone={({ name, deployment }) => {
                      void navigate({
                        to: paths.proxy,
                        params: { name },
                        search: deployment === undefined ? {} : { deployment },
                      });
                    }}
                  />
                </div>
              )}
            </Loaded>
          );
        }}
      </Loaded>
    </Page>
  );
}
