/** Puts what the server says about single members of a request beside the fields they came from. */
import type { FieldValues, Path, UseFormSetError } from "react-hook-form";
import { Problem } from "../api/problem";

/**
 * Marks fields by JSON pointer; `fields` says which field a pointer (or what lies beneath it) belongs to.
 * Answers whether the whole problem is told beside the fields, so that a panel would only repeat it.
 */
export function placeProblem<T extends FieldValues>(
  error: unknown,
  fields: Readonly<Record<string, Path<T>>>,
  setError: UseFormSetError<T>,
): boolean {
  if (!(error instanceof Problem) || error.errors.length === 0) return false;
  let placed = 0;
  for (const item of error.errors) {
    const pointer = Object.keys(fields).find((each) => item.pointer === each || item.pointer.startsWith(`${each}/`));
    const field = pointer === undefined ? undefined : fields[pointer];
    if (field === undefined) continue;
    setError(field, { type: "server", message: item.message }, { shouldFocus: placed === 0 });
    placed += 1;
  }
  return placed === error.errors.length;
}
