/** Usage: requests and tokens of a range, over time and by what one asks for. */
import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import type { Usage as UsageAnswer, UsageRow } from "../../api/types";
import { intervalOf, usageQuery, usageSeriesQuery } from "../../api/usage";
import type { UsageGroup, UsageRange } from "../../api/usage";
import { messages } from "../../messages";
import { Chart } from "../../ui/chart";
import { Empty } from "../../ui/empty";
import { Segments } from "../../ui/field";
import { formatNumber } from "../../ui/format";
import { Loaded } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { Table, TableSkeleton } from "../../ui/table";
import type { Column } from "../../ui/table";
import { buckets } from "./buckets";

const m = messages.usage;
const route = getRouteApi("/shell/usage");

const NUMBERS = [
  { id: "requests", header: m.columns.requests, of: (row: UsageRow) => row.requests },
  { id: "refused", header: m.columns.refused, of: (row: UsageRow) => row.refused },
  { id: "errors", header: m.columns.errors, of: (row: UsageRow) => row.errors },
  { id: "input", header: m.columns.input, of: (row: UsageRow) => row.inputTokens },
  { id: "output", header: m.columns.output, of: (row: UsageRow) => row.outputTokens },
  { id: "unknown", header: m.columns.unknown, of: (row: UsageRow) => row.unknownTokenRequests },
];

export function Usage() {
  const { range = "24h", by = "key" } = route.useSearch();
  const navigate = route.useNavigate();
  const totals = useQuery(usageQuery(range, by));
  const series = useQuery(usageSeriesQuery(range));
  const show = (next: { range: UsageRange; by: UsageGroup }) => {
    void navigate({
      search: { ...(next.range === "24h" ? {} : { range: next.range }), ...(next.by === "key" ? {} : { by: next.by }) },
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
            show({ range: next, by });
          }}
          options={(["1h", "24h", "7d", "30d"] as const).map((value) => ({ value, label: m.ranges[value] }))}
        />
      }
    >
      <Loaded query={series} skeleton={<span className="skeleton skeleton-block" />}>
        {(answer) => <Course answer={answer} range={range} />}
      </Loaded>
      <div className="row">
        <Segments
          label={m.groupLabel}
          value={by}
          onChange={(next) => {
            show({ range, by: next });
          }}
          options={(["key", "endpoint", "model"] as const).map((value) => ({ value, label: m.groups[value] }))}
        />
      </div>
      <Loaded query={totals} skeleton={<TableSkeleton columns={7} />}>
        {({ data }) => <Totals rows={data} by={by} />}
      </Loaded>
    </Page>
  );
}

function Course({ answer, range }: { answer: UsageAnswer; range: UsageRange }) {
  const bars = buckets(answer, intervalOf(range));
  const first = bars[0];
  const last = bars.at(-1);
  return (
    <figure className="card card-body">
      <figcaption>
        <h2>{m.chart}</h2>
      </figcaption>
      <Chart bars={bars} label={m.chart} />
      <div className="chart-axis" aria-hidden="true">
        <span>{first?.when}</span>
        <span>{last?.when}</span>
      </div>
    </figure>
  );
}

function Totals({ rows, by }: { rows: readonly UsageRow[]; by: UsageGroup }) {
  if (rows.length === 0) return <Empty sentence={m.empty} />;
  const name = (row: UsageRow) => row[by] || m.noValue;
  const columns: Column<UsageRow>[] = [
    { id: by, header: m.columns[by], main: true, cell: (row) => <strong>{name(row)}</strong> },
    ...NUMBERS.map(({ id, header, of }) => ({ id, header, end: true, cell: (row: UsageRow) => formatNumber(of(row)) })),
  ];
  const footer = [
    { id: "total", content: m.total },
    ...NUMBERS.map(({ id, header, of }) => ({
      id,
      end: true,
      label: header,
      content: formatNumber(rows.reduce((total, row) => total + of(row), 0)),
    })),
  ];
  const sorted = rows.toSorted((a, b) => b.requests - a.requests);
  return (
    <Table caption={m.title} columns={columns} rows={sorted} rowId={(row) => String(row[by] ?? "")} footer={footer} />
  );
}
