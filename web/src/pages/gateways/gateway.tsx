/** One gateway. */
import { useQuery } from "@tanstack/react-query";
import { Link, getRouteApi } from "@tanstack/react-router";
import { gatewayQuery, nodesQuery } from "../../api/gateways";
import type { Gateway } from "../../api/types";
import { ApiView } from "../../forms/api-view";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Loaded, PageSkeleton } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { TableSkeleton } from "../../ui/table";
import { Tabs } from "../../ui/tabs";
import { GatewaySettings } from "./gateway-settings";
import { GatewayTokens } from "./gateway-tokens";
import { NeverConnected } from "./never-connected";
import { NodesTable } from "./nodes";

const m = messages.gateways;
const route = getRouteApi("/shell/gateways/$name");

export function GatewayPage() {
  const { name } = route.useParams();
  const query = useQuery(gatewayQuery(name));
  return (
    <Page
      title={query.data?.displayName || name}
      crumb={<Link to={paths.gateways}>{m.title}</Link>}
      lead={query.data && <span className="mono">{query.data.baseUrls.join("  ")}</span>}
    >
      <Loaded query={query} skeleton={<PageSkeleton />}>
        {(gateway) => <GatewayTabs key={gateway.id} gateway={gateway} />}
      </Loaded>
    </Page>
  );
}

function GatewayTabs({ gateway }: { gateway: Gateway }) {
  const { tab } = route.useSearch();
  const navigate = route.useNavigate();
  const nodes = useQuery(nodesQuery(gateway.name));
  return (
    <Tabs
      label={messages.endpoint.tabsLabel}
      value={tab ?? "nodes"}
      onChange={(next) => {
        void navigate({ search: next === "nodes" ? {} : { tab: next } });
      }}
      tabs={[
        {
          id: "nodes",
          label: m.tabs.nodes,
          content: (
            <Loaded query={nodes} skeleton={<TableSkeleton columns={6} rows={2} />}>
              {(all) => (all.length === 0 ? <NeverConnected gateway={gateway.name} /> : <NodesTable nodes={all} />)}
            </Loaded>
          ),
        },
        { id: "tokens", label: m.tabs.tokens, content: <GatewayTokens gateway={gateway.name} /> },
        {
          id: "settings",
          label: m.tabs.settings,
          content: (
            <div className="card card-body card-form">
              <GatewaySettings gateway={gateway} />
            </div>
          ),
        },
        {
          id: "api",
          label: m.tabs.api,
          content: <ApiView resource={gateway} collection="gateways" handle={gateway.name} />,
        },
      ]}
    />
  );
}
