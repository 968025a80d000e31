/** Home: the way to the first request, and after it what happened in the last day. */
import { useInfiniteQuery, useQueries, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { gatewaysQuery, nodesQuery } from "../../api/gateways";
import { requestsQuery } from "../../api/requests";
import type { UsageRow } from "../../api/types";
import { usageQuery } from "../../api/usage";
import { LiveRequests } from "../../forms/live-requests";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { formatCompact, formatPercent } from "../../ui/format";
import { Loaded, PageSkeleton } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { Checklist } from "./checklist";

const m = messages.home;

export function Home() {
  const requests = useInfiniteQuery(requestsQuery({}, 5));
  const running = requests.data?.pages.some((page) => page.data.length > 0) === true;
  return (
    <Page title={m.title} lead={requests.isPending ? undefined : running ? m.leadRunning : m.lead}>
      <Loaded query={requests} skeleton={<PageSkeleton />}>
        {() => (running ? <Running /> : <Checklist />)}
      </Loaded>
    </Page>
  );
}

function sum(rows: readonly UsageRow[], of: (row: UsageRow) => number): number {
  return rows.reduce((total, row) => total + of(row), 0);
}

function Running() {
  const usage = useQuery(usageQuery("24h", "endpoint"));
  return (
    <>
      <Loaded query={usage} skeleton={<PageSkeleton />}>
        {({ data }) => <Figures rows={data} />}
      </Loaded>
      <LiveRequests />
    </>
  );
}

function Figures({ rows }: { rows: readonly UsageRow[] }) {
  const requests = sum(rows, (row) => row.requests);
  const errors = sum(rows, (row) => row.errors);
  const refused = sum(rows, (row) => row.refused);
  const input = sum(rows, (row) => row.inputTokens);
  const output = sum(rows, (row) => row.outputTokens);
  const share = (part: number) => m.figures.share(formatPercent(requests === 0 ? 0 : part / requests));
  return (
    <div className="figures">
      <Figure name={m.figures.requests} value={formatCompact(requests)} detail={messages.usage.ranges["24h"]} />
      <Figure name={m.figures.errors} value={formatCompact(errors)} detail={share(errors)} />
      <Figure name={m.figures.refused} value={formatCompact(refused)} detail={share(refused)} />
      <Figure
        name={m.figures.tokens}
        value={formatCompact(input + output)}
        detail={m.figures.tokensDetail(formatCompact(input), formatCompact(output))}
      />
      <GatewaysFigure />
    </div>
  );
}

function GatewaysFigure() {
  const gateways = useQuery(gatewaysQuery).data ?? [];
  const nodes = useQueries({ queries: gateways.map((gateway) => nodesQuery(gateway.name)) }).flatMap(
    (query) => query.data ?? [],
  );
  const connected = nodes.filter((node) => node.status !== "disconnected").length;
  return (
    <dl className="card figure">
      <dt>
        <Link to={paths.gateways}>{m.figures.gateways}</Link>
      </dt>
      <dd>{formatCompact(gateways.length)}</dd>
      <dd>{m.figures.nodes(connected, nodes.length)}</dd>
    </dl>
  );
}

function Figure({ name, value, detail }: { name: string; value: string; detail: string }) {
  return (
    <dl className="card figure">
      <dt>{name}</dt>
      <dd>{value}</dd>
      <dd>{detail}</dd>
    </dl>
  );
}
