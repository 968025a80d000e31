/** The one door to the control plane: same origin, session cookie, JSON, and every refusal thrown as a `Problem`. */
import createClient from "openapi-fetch";
import { Problem, problemFrom, unreachable } from "./problem";
import type { paths } from "./schema.generated";
import type { Told } from "./types";

// What can be had as a table too is read as JSON here.
export const client = createClient<paths, "application/json" | "application/problem+json">({
  baseUrl: globalThis.location.origin,
  credentials: "same-origin",
  // The server takes unsafe methods only as JSON, also those without a body.
  headers: { "content-type": "application/json" },
});

interface Answer<T> {
  data?: T | undefined;
  error?: unknown;
  response: Response;
}

/** The body of a successful answer; throws the refusal otherwise. */
export async function unwrap<T>(call: Promise<Answer<T>>): Promise<Told<T>> {
  let answer: Answer<T>;
  try {
    answer = await call;
  } catch (cause) {
    throw cause instanceof Problem || isAbort(cause) ? cause : unreachable(cause);
  }
  if (!answer.response.ok) throw problemFrom(answer.error, answer.response);
  return answer.data as Told<T>;
}

function isAbort(cause: unknown): boolean {
  return cause instanceof DOMException && cause.name === "AbortError";
}

/** The precondition for a change: the revision that was read, as the server's entity tag. */
export const ifMatch = (revision: number): string => `"${String(revision)}"`;
