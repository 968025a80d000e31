/** Usage: requests, tokens and cost of a range, over time and by what one asks for. */
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import type { Usage as UsageAnswer, UsageRow } from "../../api/types";
import { intervalOf, usageCsv, usageQuery, usageSeriesQuery } from "../../api/usage";
import type { UsageGroup, UsageMeasure, UsageRange } from "../../api/usage";
import { messages } from "../../messages";
import { Chart } from "../../ui/chart";
import { Empty } from "../../ui/empty";
import { Segments } from "../../ui/field";
import { formatCost, formatNumber } from "../../ui/format";
import { Loaded } from "../../ui/loaded";
import { Notice } from "../../ui/notice";
import { Page } from "../../ui/page";
import { Table, TableSkeleton } from "../../ui/table";
import type { Column } from "../../ui/table";
import { buckets } from "./buckets";

const m = messages.usage;
const route = getRouteApi("/shell/usage");

interface Figure {
  id: string;
  header: string;
  of: (row: UsageRow) => number;
  format?: (value: number) => string;
}

const NUMBERS: Figure[] = [
  { id: "requests", header: m.columns.requests, of: (row: UsageRow) => row.requests },
  { id: "refused", header: m.columns.refused, of: (row: UsageRow) => row.refused },
  { id: "errors", header: m.columns.errors, of: (row: UsageRow) => row.errors },
  { id: "input", header: m.columns.input, of: (row: UsageRow) => row.inputTokens },
  { id: "output", header: m.columns.output, of: (row: UsageRow) => row.outputTokens },
  { id: "unknown", header: m.columns.unknown, of: (row: UsageRow) => row.unknownTokenRequests },
  { id: "unpriced", header: m.columns.unpriced, of: (row: UsageRow) => row.unpricedRequests },
  { id: "cost", header: m.columns.cost, of: (row: UsageRow) => row.costNanos, format: formatCost },
];

export function Usage() {
  const { range = "24h", by = "key", measure = "requests" } = route.useSearch();
  const navigate = route.useNavigate();
  const totals = useQuery(usageQuery(range, by));
  const series = useQuery(usageSeriesQuery(range));
  const show = (change: { range?: UsageRange; by?: UsageGroup; measure?: UsageMeasure }) => {
    const next = { range, by, measure, ...change };
    void navigate({
      search: {
        ...(next.range === "24h" ? {} : { range: next.range }),
        ...(next.by === "key" ? {} : { by: next.by }),
        ...(next.measure === "requests" ? {} : { measure: next.measure }),
      },
    });
  };
  return (
    <Page
      title={m.title}
      lead={m.lead}
      actions={
        <Segments
          label={m.range}
          value={range}
          onChange={(next) => {
            show({ range: next });
          }}
          options={(["1h", "24h", "7d", "30d"] as const).map((value) => ({ value, label: m.ranges[value] }))}
        />
      }
    >
      <Loaded query={series} skeleton={<span className="skeleton skeleton-block" />}>
        {(answer) => <Course answer={answer} range={range} measure={measure} />}
      </Loaded>
      <div className="row">
        <Segments
          label={m.measureLabel}
          value={measure}
          onChange={(next) => {
            show({ measure: next });
          }}
          options={(["requests", "tokens", "cost"] as const).map((value) => ({ value, label: m.measures[value] }))}
        />
        <Segments
          label={m.groupLabel}
          value={by}
          onChange={(next) => {
            show({ by: next });
          }}
          options={(["key", "endpoint", "provider", "model", "outcome"] as const).map((value) => ({
            value,
            label: m.groups[value],
          }))}
        />
        {totals.data && (
          <a className="small" href={usageCsv(totals.data, by)} download="usage.csv">
            {m.csv}
          </a>
        )}
      </div>
      <Loaded query={totals} skeleton={<TableSkeleton columns={9} />}>
        {({ data, totals: { unpricedRequests } }) => (
          <>
            {unpricedRequests > 0 && (
              <Notice tone="warning" title={m.columns.unpriced}>
                <p>{m.unpriced(formatNumber(unpricedRequests))}</p>
              </Notice>
            )}
            <Totals rows={data} by={by} />
          </>
        )}
      </Loaded>
    </Page>
  );
}

function Course({ answer, range, measure }: { answer: UsageAnswer; range: UsageRange; measure: UsageMeasure }) {
  const bars = buckets(answer, intervalOf(range), measure);
  const first = bars[0];
  const last = bars.at(-1);
  return (
    <figure className="card card-body">
      <figcaption>
        <h2>{m.charts[measure]}</h2>
      </figcaption>
      <Chart bars={bars} label={m.charts[measure]} />
      <div className="chart-axis" aria-hidden="true">
        <span>{first?.when}</span>
        <span>{last?.when}</span>
      </div>
    </figure>
  );
}

function Totals({ rows, by }: { rows: readonly UsageRow[]; by: UsageGroup }) {
  if (rows.length === 0) return <Empty sentence={m.empty} />;
  const name = (row: UsageRow) => {
    const told = row[by];
    return (by === "outcome" && told ? messages.requests.outcomes[told] : undefined) ?? (told || m.noValue);
  };
  const columns: Column<UsageRow>[] = [
    { id: by, header: m.columns[by], main: true, cell: (row) => <strong>{name(row)}</strong> },
    ...NUMBERS.map(({ id, header, of, format = formatNumber }) => ({
      id,
      header,
      end: true,
      cell: (row: UsageRow) => format(of(row)),
    })),
  ];
  const footer = [
    { id: "total", content: m.total },
    ...NUMBERS.map(({ id, header, of, format = formatNumber }) => ({
      id,
      end: true,
      label: header,
      content: format(rows.reduce((total, row) => total + of(row), 0)),
    })),
  ];
  const sorted = rows.toSorted((a, b) => b.requests - a.requests);
  return (
    <Table caption={m.title} columns={columns} rows={sorted} rowId={(row) => String(row[by] ?? "")} footer={footer} />
  );
}
