/** The latest requests of one endpoint: first a place that waits, then the real rows. */
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Radio } from "lucide-react";
import { useState } from "react";
import { requestsQuery } from "../api/requests";
import { messages } from "../messages";
import { paths } from "../paths";
import { Loaded } from "../ui/loaded";
import { TableSkeleton } from "../ui/table";
import { RequestsTable } from "./requests-table";

const m = messages.endpoint;
const SHOWN = 5;

export function LiveRequests({ endpoint }: { endpoint?: string }) {
  const [since] = useState(Date.now);
  const query = useInfiniteQuery(requestsQuery({ endpoint }, SHOWN));
  return (
    <section className="stack">
      <div className="row-between">
        <h2>{m.requestsTitle}</h2>
        <Link to={paths.requests} search={endpoint === undefined ? {} : { endpoint }} className="small">
          {m.allRequests}
        </Link>
      </div>
      <Loaded query={query} skeleton={<TableSkeleton columns={5} rows={2} />}>
        {({ pages }) => {
          const rows = pages.flatMap((page) => page.data).slice(0, SHOWN);
          return rows.length > 0 ? (
            <RequestsTable rows={rows} since={since} />
          ) : (
            <div className="empty" role="status">
              <span className="badge badge-accent badge-busy">{m.waiting}</span>
              <p>{m.waitingText}</p>
              <Radio size={20} aria-hidden="true" className="muted" />
            </div>
          );
        }}
      </Loaded>
    </section>
  );
}
