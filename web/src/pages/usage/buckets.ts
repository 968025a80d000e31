/** Turns the rows that exist into a bar for every moment of the range, the silent ones included. */
import type { Usage } from "../../api/types";
import { messages } from "../../messages";
import type { Bar } from "../../ui/chart";
import type { UsageMeasure } from "../../api/usage";
import { formatCost, formatNumber } from "../../ui/format";

const SIZE = { minute: 60_000, hour: 3_600_000, day: 86_400_000 };

const writers = {
  minute: new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" }),
  hour: new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" }),
  day: new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", timeZone: "UTC" }),
};

type Row = Pick<
  Usage["data"][number],
  "start" | "requests" | "refused" | "errors" | "inputTokens" | "outputTokens" | "costNanos"
>;
type Answer = Pick<Usage, "from" | "to"> & { data: Row[] };

const m = messages.usage;

const measures: Record<UsageMeasure, { of: (row: Row) => number; bad: (row: Row) => number; tell: typeof m.bar }> = {
  requests: { of: (row) => row.requests, bad: (row) => row.errors + row.refused, tell: m.bar },
  tokens: { of: (row) => row.inputTokens + row.outputTokens, bad: () => 0, tell: m.tokenBar },
  cost: { of: (row) => row.costNanos, bad: () => 0, tell: m.costBar },
};

export function buckets(
  answer: Answer,
  interval: keyof typeof SIZE,
  measure: UsageMeasure = "requests",
): (Bar & { when: string })[] {
  const { of, bad: badOf, tell } = measures[measure];
  const format = measure === "cost" ? formatCost : formatNumber;
  const size = SIZE[interval];
  const start = Math.floor(Date.parse(answer.from) / size) * size;
  const end = Date.parse(answer.to);
  const byStart = new Map<number, { total: number; bad: number }>();
  for (const row of answer.data) {
    if (row.start == null) continue;
    const at = Math.floor(Date.parse(row.start) / size) * size;
    const known = byStart.get(at) ?? { total: 0, bad: 0 };
    byStart.set(at, { total: known.total + of(row), bad: known.bad + badOf(row) });
  }
  const bars: (Bar & { when: string })[] = [];
  for (let at = start; at < end && bars.length < 1_000; at += size) {
    const { total, bad } = byStart.get(at) ?? { total: 0, bad: 0 };
    const when = writers[interval].format(at);
    bars.push({ when, total, bad, label: tell(when, format(total), format(bad)) });
  }
  return bars;
}
