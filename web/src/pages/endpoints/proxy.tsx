/** One LLM proxy. */
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { proxyQuery } from "../../api/proxies";
import { useLeaving } from "../../forms/removal";
import { messages } from "../../messages";
import { Loaded, PageSkeleton } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { EndpointView } from "./endpoint-view";

const route = getRouteApi("/shell/llm-proxies/$name");

export function ProxyPage() {
  const { name } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const leaving = useLeaving();
  const query = useQuery({ ...proxyQuery(name), enabled: !leaving });
  if (query.data === undefined) {
    return (
      <Page title={name} crumb={messages.proxies.title}>
        <Loaded query={query} skeleton={<PageSkeleton />}>
          {() => null}
        </Loaded>
      </Page>
    );
  }
  return (
    <EndpointView
      key={query.data.id}
      endpoint={{ kind: "proxy", ...query.data }}
      search={search}
      onSearch={(next, replace) => {
        void navigate({ search: next, replace });
      }}
    />
  );
}
