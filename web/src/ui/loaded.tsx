/** The four states of anything that is fetched: on the way, refused, empty, there. */
import type { ReactNode } from "react";
import { messages } from "../messages";
import { ProblemPanel } from "./problem-panel";

interface QueryLike<T> {
  data: T | undefined;
  error: unknown;
  isPending: boolean;
  refetch: () => unknown;
}

interface LoadedProps<T> {
  query: QueryLike<T>;
  skeleton: ReactNode;
  children: (data: T) => ReactNode;
}

export function Loaded<T>({ query, skeleton, children }: LoadedProps<T>) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.isPending) {
    return (
      <div aria-busy="true">
        <span className="visually-hidden" role="status">
          {messages.loading}
        </span>
        {skeleton}
      </div>
    );
  }
  return <ProblemPanel error={query.error} onRetry={() => void query.refetch()} />;
}

/** The shape of a page of facts while it is on the way. */
export function PageSkeleton() {
  return (
    <div className="stack" aria-hidden="true">
      <span className="skeleton skeleton-w1" />
      <span className="skeleton skeleton-w2" />
      <span className="skeleton skeleton-block" />
    </div>
  );
}
