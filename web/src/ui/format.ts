/** Numbers and times in the reader's own way of writing them. */

const whole = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const dateOnly = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "long" });

export const formatNumber = (value: number): string => whole.format(value);
export const formatCompact = (value: number): string => (value < 10_000 ? whole.format(value) : compact.format(value));
/** Nano-dollars in dollars: to the cent, and below a dollar as exact as it takes to tell them from nothing. */
export const formatCost = (nanos: number): string =>
  new Intl.NumberFormat(undefined, {
    style: "currency",
    currency: "USD",
    maximumFractionDigits: nanos !== 0 && Math.abs(nanos) < 1e9 ? 6 : 2,
  }).format(nanos / 1e9);
export const formatPercent = (value: number): string => percent.format(value);
export const formatDateTime = (value: string): string => dateTime.format(new Date(value));
export const formatDate = (value: string): string => dateOnly.format(new Date(value));
export const formatClock = (value: string): string => clock.format(new Date(value));

/** A span of time as people say it: `840 ms`, `12.4 s`, `3 min`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1_000) return `${whole.format(Math.round(milliseconds))} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1_000).toFixed(milliseconds < 10_000 ? 2 : 1)} s`;
  return `${whole.format(Math.round(milliseconds / 60_000))} min`;
}

const STEPS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/** How far a time lies from another: `3 minutes ago`, `in 90 days`. */
export function formatRelative(value: string, now: number): string {
  const seconds = (new Date(value).getTime() - now) / 1_000;
  for (const [unit, size] of STEPS) {
    if (Math.abs(seconds) >= size) return relative.format(Math.round(seconds / size), unit);
  }
  return relative.format(Math.round(seconds), "second");
}
