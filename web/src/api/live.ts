/** Keeps what is on screen true: live events are written into the query cache, or make it ask again. */
import type { InfiniteData, QueryClient } from "@tanstack/react-query";
import { useEffect, useSyncExternalStore } from "react";
import type { LiveEvent, StreamState } from "./events";
import { listen } from "./events";
import { matches } from "./requests";
import type { RequestFilter } from "./requests";
import type { Deployment, Page, RequestRow } from "./types";

const CATALOGUE = ["providers", "proxies", "api-keys", "gateways", "deployments", "templates"];
const ROWS_KEPT = 500;

let state: StreamState = "connecting";
const watchers = new Set<() => void>();

function setState(next: StreamState): void {
  state = next;
  for (const watcher of watchers) watcher();
}

/** Whether live updates are arriving. */
export const useStreamState = (): StreamState =>
  useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => state,
  );

/** Calls a function at most once per interval, and once more at the end of a burst. */
export function throttled(run: () => void, milliseconds: number): { (): void; cancel: () => void } {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const call = () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      run();
    }, milliseconds);
  };
  call.cancel = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  return call;
}

/** Puts new rows on top of a list, newest first, without repeating one and without growing for ever. */
export function prepend(
  list: InfiniteData<Page<RequestRow>, unknown>,
  rows: readonly RequestRow[],
): InfiniteData<Page<RequestRow>, unknown> {
  const [first, ...rest] = list.pages;
  if (first === undefined) return list;
  const known = new Set(list.pages.flatMap((page) => page.data.map((row) => row.id)));
  const fresh = rows.filter((row) => !known.has(row.id));
  if (fresh.length === 0) return list;
  const data = [...fresh.toSorted((a, b) => b.at.localeCompare(a.at)), ...first.data].slice(0, ROWS_KEPT);
  return { ...list, pages: [{ ...first, data }, ...rest] };
}

function start(client: QueryClient): () => void {
  const ask = (key: readonly unknown[]) => void client.invalidateQueries({ queryKey: key });
  const catalogue = throttled(() => {
    for (const noun of CATALOGUE) ask([noun]);
  }, 150);
  const usage = throttled(() => {
    ask(["usage"]);
  }, 2_000);
  const nodes = throttled(() => {
    ask(["gateways", "nodes"]);
  }, 100);

  let rows: RequestRow[] = [];
  const flush = throttled(() => {
    const fresh = rows;
    rows = [];
    for (const query of client.getQueryCache().findAll({ queryKey: ["requests", "list"] })) {
      const filter = query.queryKey[2] as RequestFilter;
      const mine = fresh.filter((row) => matches(row, filter));
      if (mine.length === 0) continue;
      client.setQueryData<InfiniteData<Page<RequestRow>>>(
        query.queryKey,
        (list) => list && (prepend(list, mine) as InfiniteData<Page<RequestRow>>),
      );
    }
    usage();
  }, 60);

  const apply = (event: LiveEvent) => {
    switch (event.name) {
      case "revision":
        catalogue();
        break;
      case "deployment": {
        const key = ["deployments", "one", event.data.id];
        client.setQueryData<Deployment>(key, (known) => known && { ...known, ...event.data });
        ask(key);
        catalogue();
        break;
      }
      case "node":
        nodes();
        ask(["deployments"]);
        break;
      case "request":
        rows.push(event.data);
        flush();
        break;
    }
  };

  const stop = listen({
    event: apply,
    state: (next) => {
      // Whatever happened before somebody listened is asked for once.
      if (next === "open" && state !== "open") {
        for (const noun of [...CATALOGUE, "requests", "usage"]) ask([noun]);
      }
      setState(next);
    },
  });
  return () => {
    stop();
    setState("connecting");
    for (const timer of [catalogue, usage, nodes, flush]) timer.cancel();
  };
}

/** What the stream tells of, and so what one must be allowed to read. */
const NEEDED = ["catalogue:read", "usage:read"];

/** Whether somebody with these permissions can be shown what happens as it happens. */
export const mayWatch = (permissions: readonly string[]): boolean =>
  NEEDED.every((permission) => permissions.includes(permission));

/** Listens for as long as the caller is on screen and allowed to. */
export function useLiveUpdates(client: QueryClient, permissions: readonly string[]): void {
  const allowed = mayWatch(permissions);
  useEffect(() => (allowed ? start(client) : undefined), [client, allowed]);
}
