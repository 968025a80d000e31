/** Gateways and how their nodes are. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { gatewaysQuery, nodesQuery } from "../../api/gateways";
import type { Gateway } from "../../api/types";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Badge } from "../../ui/badge";
import { Empty } from "../../ui/empty";
import { Loaded, PageSkeleton } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { TableSkeleton } from "../../ui/table";
import { NeverConnected } from "./never-connected";
import { NodesTable } from "./nodes";

const m = messages.gateways;

export function Gateways() {
  const query = useQuery(gatewaysQuery);
  return (
    <Page title={m.title} lead={m.lead}>
      <Loaded query={query} skeleton={<PageSkeleton />}>
        {(all) =>
          all.length === 0 ? (
            <Empty sentence={m.empty} />
          ) : (
            all.map((gateway) => <GatewayCard key={gateway.id} gateway={gateway} />)
          )
        }
      </Loaded>
    </Page>
  );
}

function GatewayCard({ gateway }: { gateway: Gateway }) {
  const nodes = useQuery(nodesQuery(gateway.name));
  const connected = nodes.data?.filter((node) => node.status !== "disconnected").length ?? 0;
  return (
    <section className="stack">
      <div className="row-between">
        <div>
          <h2 className="row">
            <Link to={paths.gateway} params={{ name: gateway.name }}>
              {gateway.displayName || gateway.name}
            </Link>
            {nodes.data !== undefined && (
              <Badge tone={connected > 0 ? "success" : "neutral"}>
                {nodes.data.length === 0 ? m.noNodes : m.summary(connected, nodes.data.length)}
              </Badge>
            )}
          </h2>
          <p className="mono muted">{gateway.baseUrls.join("  ")}</p>
        </div>
      </div>
      <Loaded query={nodes} skeleton={<TableSkeleton columns={6} rows={1} />}>
        {(all) => (all.length === 0 ? <NeverConnected gateway={gateway.name} /> : <NodesTable nodes={all} />)}
      </Loaded>
    </section>
  );
}
