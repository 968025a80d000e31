/** Saving a change to something others may change as well: the revision that was read goes with it. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { isProblem } from "../api/problem";
import type { Resource } from "../api/types";
import { messages } from "../messages";
import { Button } from "../ui/button";
import { Notice } from "../ui/notice";
import { ProblemPanel } from "../ui/problem-panel";

const m = messages.problem;

interface Options<R extends Resource, C> {
  /** Where the resource lies in the query cache. */
  queryKey: readonly unknown[];
  replace: (read: R, change: C) => Promise<R>;
  /** Reads the resource as it is now. */
  load: () => Promise<R>;
  onError?: (error: unknown) => void;
  onSaved?: (saved: R) => void;
}

/** The change under way: save it, and after a conflict overwrite with it. */
export function useReplace<R extends Resource, C>({ queryKey, replace, load, onError, onSaved }: Options<R, C>) {
  const queries = useQueryClient();
  const mutation = useMutation({
    mutationFn: async ({ read, change, overwrite }: { read: R; change: C; overwrite?: boolean }) =>
      replace(overwrite === true ? await load() : read, change),
    onSuccess: (saved) => {
      queries.setQueryData(queryKey, saved);
      void queries.invalidateQueries({ queryKey: queryKey.slice(0, 1) });
      onSaved?.(saved);
    },
    onError: (error) => onError?.(error),
  });
  const overwrite = () => {
    if (mutation.variables !== undefined) mutation.mutate({ ...mutation.variables, overwrite: true });
  };
  return { mutation, overwrite };
}

interface OutcomeProps<R extends Resource, C> {
  saving: ReturnType<typeof useReplace<R, C>>;
  /** Forgets what was typed and shows what is stored. */
  onReload: () => void;
  /** Whether the problem is told beside the fields already. */
  placed?: boolean;
  note?: string | undefined;
}

/** What came of it: saved, in conflict, or refused. */
export function SaveOutcome<R extends Resource, C>({ saving, onReload, placed, note }: OutcomeProps<R, C>) {
  const { mutation, overwrite } = saving;
  if (isProblem(mutation.error, 412)) {
    const reload = () => {
      mutation.reset();
      onReload();
    };
    return (
      <Notice
        tone="warning"
        live
        title={m.conflictTitle}
        actions={
          <>
            <Button size="small" onClick={reload}>
              {m.reload}
            </Button>
            <Button size="small" variant="danger" onClick={overwrite}>
              {m.overwrite}
            </Button>
          </>
        }
      >
        <p>{m.conflict}</p>
      </Notice>
    );
  }
  if (mutation.error !== null) return placed === true ? null : <ProblemPanel error={mutation.error} />;
  if (mutation.data !== undefined) {
    return (
      <Notice tone="success" live>
        <p>
          {messages.endpoint.saved(mutation.data.revision)} {note}
        </p>
        {warningsOf(mutation.data).map((warning) => (
          <p key={`${warning.pointer} ${warning.message}`}>
            <code>{warning.pointer}</code> {warning.message}
          </p>
        ))}
      </Notice>
    );
  }
  return null;
}

/** What the server did differently from what was written, if it says so. */
function warningsOf(saved: { warnings?: readonly { pointer: string; message: string }[] } & Resource) {
  return saved.warnings ?? [];
}
