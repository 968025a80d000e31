/** Usage, added up: who used how much of what. */
import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { client, unwrap } from "./client";

export type UsageGroup = "key" | "endpoint" | "provider" | "model" | "outcome";
/** What the columns of the chart stand for. */
export type UsageMeasure = "requests" | "tokens" | "cost";
export type UsageRange = "1h" | "24h" | "7d" | "30d";

type Interval = "minute" | "hour" | "day" | "none";

const minutes: Record<UsageRange, number> = { "1h": 60, "24h": 1_440, "7d": 10_080, "30d": 43_200 };

/** The start of a range that ends now. */
export const rangeStart = (range: UsageRange, now: number): string =>
  new Date(now - minutes[range] * 60_000).toISOString();

const load = (range: UsageRange, groupBy: string | undefined, interval: Interval, signal: AbortSignal) => {
  const now = Date.now();
  const query = {
    from: rangeStart(range, now),
    to: new Date(now).toISOString(),
    interval,
    ...(groupBy === undefined ? {} : { groupBy }),
  };
  return unwrap(client.GET("/api/v1/usage", { params: { query }, signal }));
};

/** The same totals as a file for spreadsheets. */
export const usageCsv = ({ from, to }: { from: string; to: string }, groupBy: UsageGroup): string =>
  `/api/v1/usage?${new URLSearchParams({ from, to, groupBy, format: "csv" }).toString()}`;

/** Totals of a range by what they are grouped by. */
export const usageQuery = (range: UsageRange, groupBy: UsageGroup) =>
  queryOptions({
    queryKey: ["usage", range, groupBy],
    queryFn: ({ signal }) => load(range, groupBy, "none", signal),
    placeholderData: keepPreviousData,
  });

const intervals: Record<UsageRange, Exclude<Interval, "none">> = {
  "1h": "minute",
  "24h": "hour",
  "7d": "day",
  "30d": "day",
};

export const intervalOf = (range: UsageRange) => intervals[range];

/** The course of a range over time. */
export const usageSeriesQuery = (range: UsageRange) =>
  queryOptions({
    queryKey: ["usage", range, "series"],
    queryFn: ({ signal }) => load(range, undefined, intervals[range], signal),
    placeholderData: keepPreviousData,
  });
