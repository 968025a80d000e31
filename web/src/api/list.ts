/** Lists that come in pages: one shape for all nouns. */
import { infiniteQueryOptions, keepPreviousData } from "@tanstack/react-query";
import type { Page } from "./types";

/** Query options of a paged list; `load` fetches one page from a cursor. */
export const pages = <T>(
  key: readonly unknown[],
  load: (cursor: string | undefined, signal: AbortSignal) => Promise<Page<T>>,
) =>
  infiniteQueryOptions({
    queryKey: key,
    queryFn: ({ pageParam, signal }) => load(pageParam, signal),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last: Page<T>) => last.nextCursor ?? undefined,
    // While a filter is being typed the rows stay where they are.
    placeholderData: keepPreviousData,
  });

/** Leaves out members that say nothing, so that they do not become empty query parameters. */
export function given<T extends object>(query: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(query).filter(([, value]) => value !== undefined && value !== "" && value !== null),
  ) as Partial<T>;
}

/** Members that the server owns: they are read, and not sent back. */
type Owned =
  "id" | "revision" | "createdAt" | "updatedAt" | "pendingChanges" | "invokeUrls" | "deployments" | "warnings" | "kind";

const OWNED: ReadonlySet<string> = new Set<Owned>([
  "id",
  "revision",
  "createdAt",
  "updatedAt",
  "pendingChanges",
  "invokeUrls",
  "deployments",
  "warnings",
  "kind",
]);

/** What of a resource people write, as it was read: the body of a replacement that changes nothing. */
export const authored = <R extends object>(read: R): Omit<R, Owned> =>
  Object.fromEntries(Object.entries(read).filter(([name]) => !OWNED.has(name))) as Omit<R, Owned>;
