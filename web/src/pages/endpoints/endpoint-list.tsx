/** The list that providers and proxies share. */
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { Provider, Proxy } from "../../api/types";
import { EndpointStatus } from "../../forms/endpoint-status";
import type { paths } from "../../paths";
import { Table } from "../../ui/table";
import type { Column } from "../../ui/table";
import { Time } from "../../ui/time";

interface EndpointListProps<E extends Provider | Proxy> {
  caption: string;
  to: typeof paths.provider | typeof paths.proxy;
  rows: readonly E[];
  /** What stands behind it: a template or a provider. */
  behind: { header: string; cell: (row: E) => ReactNode };
  headers: { name: string; context: string; status: string; updated: string };
}

export function EndpointList<E extends Provider | Proxy>({ caption, to, rows, behind, headers }: EndpointListProps<E>) {
  const columns: Column<E>[] = [
    {
      id: "name",
      header: headers.name,
      main: true,
      cell: (row) => (
        <span className="stack-none">
          <Link to={to} params={{ name: row.name }}>
            {row.displayName || row.name}
          </Link>
          {row.displayName && row.displayName !== row.name && <span className="muted small">{row.name}</span>}
        </span>
      ),
    },
    { id: "behind", header: behind.header, cell: behind.cell },
    { id: "context", header: headers.context, cell: (row) => <span className="mono">{row.context}</span> },
    { id: "status", header: headers.status, cell: (row) => <EndpointStatus endpoint={row} /> },
    { id: "updated", header: headers.updated, end: true, cell: (row) => <Time value={row.updatedAt} /> },
  ];
  return <Table caption={caption} columns={columns} rows={rows} rowId={(row) => row.id} />;
}
