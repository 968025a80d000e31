/** Everything known about one request, and what to do when it went wrong. */
import type { ReactNode } from "react";
import { useQuery } from "@tanstack/react-query";
import { requestQuery } from "../../api/requests";
import type { RequestTrace } from "../../api/types";
import { Outcome, adviceFor, count } from "../../forms/requests-table";
import { messages } from "../../messages";
import { formatDateTime, formatDuration } from "../../ui/format";
import { Loaded, PageSkeleton } from "../../ui/loaded";
import { Notice } from "../../ui/notice";

const m = messages.requests;

const known = (value: string | null | undefined): ReactNode => value || m.unknown;

/** Of any request in the ledger, whether or not the page lists it. */
export function RequestDetail({ id }: { id: string }) {
  const query = useQuery(requestQuery(id));
  return (
    <Loaded query={query} skeleton={<PageSkeleton />}>
      {(trace) => <RequestFacts row={trace} />}
    </Loaded>
  );
}

const attemptText = ({ provider, status, failure }: RequestTrace["attempts"][number]): string =>
  `${provider}: ${failure ?? (status == null ? m.unknown : String(status))}`;

function RequestFacts({ row }: { row: RequestTrace }) {
  const advice = adviceFor(row);
  const facts: [string, ReactNode][] = [
    [m.fields.id, <code key="id">{row.id}</code>],
    [m.fields.at, formatDateTime(row.at)],
    [m.fields.outcome, <Outcome key="outcome" row={row} />],
    ...(row.refusal
      ? [[m.fields.refusal, <code key="refusal">{row.refusal}</code>] satisfies [string, ReactNode]]
      : []),
    [m.fields.endpoint, known(row.endpoint)],
    [m.fields.provider, known(row.provider)],
    [m.fields.key, known(row.key)],
    [
      m.fields.method,
      <code key="call">
        {row.method ?? ""} {row.path ?? ""}
      </code>,
    ],
    [m.fields.requestedModel, known(row.requestedModel)],
    [m.fields.servedModel, known(row.servedModel)],
    [m.fields.tokens, `${count(row.inputTokens)} / ${count(row.outputTokens)}`],
    [m.fields.firstByte, row.firstByteMs == null ? m.unknown : formatDuration(row.firstByteMs)],
    [m.fields.duration, formatDuration(row.durationMs)],
    [m.fields.streamed, row.streamed ? messages.yes : messages.no],
    [m.fields.node, known(row.node)],
    [m.fields.revision, String(row.revision)],
    ...(row.denial ? [[m.fields.rule, row.denial.rule] satisfies [string, ReactNode]] : []),
    ...row.attempts.map(
      (attempt, number) =>
        [`${m.fields.attempt} ${String(number + 1)}`, attemptText(attempt)] satisfies [string, ReactNode],
    ),
  ];
  return (
    <div className="stack">
      <p>{row.explanation}</p>
      {advice !== undefined && (
        <Notice tone="warning" title={m.advice}>
          <p>{advice}</p>
        </Notice>
      )}
      <dl className="facts">
        {facts.map(([name, value]) => (
          <div key={name} className="fact">
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
