/** What the server says when it refuses (RFC 9457), as an error that can be thrown, shown and acted upon. */

/** One member of the request that was not acceptable. */
export interface FieldProblem {
  /** JSON pointer into the request body, such as `/upstream/url`. */
  pointer: string;
  code: string;
  message: string;
  suggestion?: string | null | undefined;
}

/** A refusal, whoever made it: the server in problem+json, or the network by not answering. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly requestId: string | null;
  readonly errors: readonly FieldProblem[];

  constructor(fields: {
    status: number;
    code: string;
    title: string;
    detail: string;
    requestId: string | null;
    errors: readonly FieldProblem[];
  }) {
    super(fields.detail === "" ? fields.title : fields.detail);
    this.name = "Problem";
    this.status = fields.status;
    this.code = fields.code;
    this.title = fields.title;
    this.detail = fields.detail;
    this.requestId = fields.requestId;
    this.errors = fields.errors;
  }
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");

function fieldProblem(value: unknown): FieldProblem[] {
  if (typeof value !== "object" || value === null) return [];
  const item = value as Record<string, unknown>;
  const suggestion = text(item.suggestion);
  return [
    {
      pointer: text(item.pointer),
      code: text(item.code),
      message: text(item.message),
      ...(suggestion === "" ? {} : { suggestion }),
    },
  ];
}

/** Reads a refusal out of an answer that was not a success; a body that is not a problem still gives one. */
export function problemFrom(body: unknown, response: Response): Problem {
  const members = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  const errors = Array.isArray(members.errors) ? members.errors.flatMap(fieldProblem) : [];
  return new Problem({
    status: response.status,
    code: text(members.code) || `http_${String(response.status)}`,
    title: text(members.title) || response.statusText || `HTTP ${String(response.status)}`,
    detail: text(members.detail),
    requestId: text(members.requestId) || response.headers.get("x-request-id"),
    errors,
  });
}

/** The server could not be reached at all. */
export function unreachable(cause: unknown): Problem {
  return new Problem({
    status: 0,
    code: "unreachable",
    title: "The control plane does not answer",
    detail: cause instanceof Error ? cause.message : "",
    requestId: null,
    errors: [],
  });
}

/** Whether an error is this refusal. */
export function isProblem(error: unknown, status: number): error is Problem {
  return error instanceof Problem && error.status === status;
}
