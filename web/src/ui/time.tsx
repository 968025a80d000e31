/** A moment, said relative to now and exact on demand. */
import { useSyncExternalStore } from "react";
import { formatDateTime, formatRelative } from "./format";

const TICK = 10_000;

let now = Date.now();
const watchers = new Set<() => void>();
let clock: ReturnType<typeof setInterval> | undefined;

function watch(watcher: () => void): () => void {
  watchers.add(watcher);
  if (clock === undefined) {
    const tell = () => {
      now = Date.now();
      for (const each of watchers) each();
    };
    clock = setInterval(tell, TICK);
    tell();
  }
  return () => {
    watchers.delete(watcher);
    if (watchers.size === 0) {
      clearInterval(clock);
      clock = undefined;
    }
  };
}

/** The time, fresh to ten seconds, one clock for the whole page. */
export const useNow = (): number => useSyncExternalStore(watch, () => now);

export function Time({ value }: { value: string }) {
  const current = useNow();
  // What happened since the clock last ticked is not in the future.
  return (
    <time dateTime={value} title={formatDateTime(value)} className="nowrap">
      {formatRelative(value, Math.max(current, Math.min(Date.parse(value), current + 2 * TICK)))}
    </time>
  );
}
