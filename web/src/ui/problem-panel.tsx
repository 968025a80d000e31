/** A refusal in full: what, why, its code, the request id for the log, and the way to try again. */
import { messages } from "../messages";
import { Button } from "./button";
import { Notice } from "./notice";

interface ProblemLike {
  title?: string;
  detail?: string;
  code?: string;
  status?: number;
  requestId?: string | null;
  errors?: readonly { pointer: string; message: string }[];
}

const m = messages.problem;

export function ProblemPanel({ error, onRetry }: { error: unknown; onRetry?: (() => void) | undefined }) {
  const problem: ProblemLike = error instanceof Error ? (error as Error & ProblemLike) : {};
  const title = problem.title ?? m.unexpected;
  const detail = problem.detail ?? (error instanceof Error ? error.message : "");
  const errors = problem.errors ?? [];
  return (
    <Notice
      tone="danger"
      title={title}
      actions={
        onRetry && (
          <Button size="small" onClick={onRetry}>
            {m.retry}
          </Button>
        )
      }
    >
      {detail !== "" && detail !== title && <p>{detail}</p>}
      {errors.length > 0 && (
        <ul className="stack-tight">
          {errors.map((item) => (
            <li key={`${item.pointer} ${item.message}`}>
              <code>{item.pointer}</code> {item.message}
            </li>
          ))}
        </ul>
      )}
      {problem.code !== undefined && (
        <p className="small">
          {m.code} <code>{problem.code}</code>
          {problem.requestId != null && (
            <>
              {" · "}
              {m.requestId} <code>{problem.requestId}</code>
            </>
          )}
        </p>
      )}
    </Notice>
  );
}
