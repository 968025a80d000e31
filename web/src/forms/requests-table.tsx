/** Rows of the request log. */
import { Link } from "@tanstack/react-router";
import type { RequestRow } from "../api/types";
import { messages } from "../messages";
import { paths } from "../paths";
import { Badge } from "../ui/badge";
import type { Tone } from "../ui/badge";
import { formatClock, formatCost, formatDateTime, formatDuration, formatNumber } from "../ui/format";
import { Table } from "../ui/table";
import type { Column } from "../ui/table";

const m = messages.requests;

/** Unknown is said as such, never as zero. */
export const count = (value: number | null | undefined): string => (value == null ? "–" : formatNumber(value));

/** What it cost; a request without a price is not free. */
export const cost = (row: RequestRow): string =>
  row.unpriced ? m.unpriced : row.costNanos == null ? "–" : formatCost(row.costNanos);

const tones: Record<string, Tone | undefined> = {
  answered: "success",
  refused: "warning",
  vendor_error: "warning",
  upstream_failed: "danger",
  upstream_broken: "danger",
};

/** What the one who has to mend it should do, if there is anything to mend. */
export const adviceFor = (row: RequestRow): string | undefined =>
  (row.refusal ? messages.advice[row.refusal] : undefined) ?? messages.advice[row.outcome];

export function Outcome({ row }: { row: RequestRow }) {
  const text = m.outcomes[row.outcome] ?? row.outcome;
  return <Badge tone={tones[row.outcome] ?? "neutral"}>{row.status ? `${String(row.status)} ${text}` : text}</Badge>;
}

const columns: Column<RequestRow>[] = [
  {
    id: "at",
    header: m.columns.at,
    main: true,
    cell: (row) => (
      <Link to={paths.requests} search={(before: object) => ({ ...before, request: row.id })}>
        <time dateTime={row.at} title={formatDateTime(row.at)} className="nowrap number">
          {formatClock(row.at)}
        </time>
      </Link>
    ),
  },
  { id: "endpoint", header: m.columns.endpoint, cell: (row) => <span className="nowrap">{row.endpoint ?? "–"}</span> },
  {
    id: "model",
    header: m.columns.model,
    cell: (row) => <span className="mono">{row.servedModel ?? row.requestedModel ?? "–"}</span>,
  },
  {
    id: "outcome",
    header: m.columns.outcome,
    cell: (row) => {
      const advice = adviceFor(row);
      return (
        <span className="stack-tight outcome">
          <span>
            <Outcome row={row} />
          </span>
          {advice !== undefined && <span className="muted small">{advice}</span>}
        </span>
      );
    },
  },
  {
    id: "tokens",
    header: m.columns.tokens,
    end: true,
    cell: (row) => (
      <span className="nowrap">
        {count(row.inputTokens)} / {count(row.outputTokens)}
      </span>
    ),
  },
  { id: "cost", header: m.columns.cost, end: true, cell: (row) => <span className="nowrap">{cost(row)}</span> },
  {
    id: "firstByte",
    header: m.columns.firstByte,
    end: true,
    cell: (row) => <span className="nowrap">{row.firstByteMs == null ? "–" : formatDuration(row.firstByteMs)}</span>,
  },
  {
    id: "duration",
    header: m.columns.duration,
    end: true,
    cell: (row) => <span className="nowrap">{formatDuration(row.durationMs)}</span>,
  },
];

interface RequestsTableProps {
  rows: readonly RequestRow[];
  /** Rows that began after this time came in while one was watching. */
  since?: number;
}

export function RequestsTable({ rows, since }: RequestsTableProps) {
  return (
    <Table
      caption={m.title}
      columns={columns}
      rows={rows}
      rowId={(row) => row.id}
      {...(since === undefined ? {} : { fresh: (row: RequestRow) => new Date(row.at).getTime() > since })}
    />
  );
}
