/** One LLM provider. */
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { providerQuery } from "../../api/providers";
import { useLeaving } from "../../forms/removal";
import { messages } from "../../messages";
import { Loaded, PageSkeleton } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { EndpointView } from "./endpoint-view";

const route = getRouteApi("/shell/llm-providers/$name");

export function ProviderPage() {
  const { name } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const leaving = useLeaving();
  const query = useQuery({ ...providerQuery(name), enabled: !leaving });
  if (query.data === undefined) {
    return (
      <Page title={name} crumb={messages.providers.title}>
        <Loaded query={query} skeleton={<PageSkeleton />}>
          {() => null}
        </Loaded>
      </Page>
    );
  }
  return (
    <EndpointView
      key={query.data.id}
      endpoint={{ kind: "provider", ...query.data }}
      search={search}
      onSearch={(next, replace) => {
        void navigate({ search: next, replace });
      }}
    />
  );
}
