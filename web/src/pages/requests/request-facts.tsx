/** Everything known about one request, and what to do when it went wrong. */
import type { ReactNode } from "react";
import { useQuery } from "@tanstack/react-query";
import { requestQuery } from "../../api/requests";
import type { RequestTrace } from "../../api/types";
import { Outcome, adviceFor, cost, count } from "../../forms/requests-table";
import { messages } from "../../messages";
import { formatDateTime, formatDuration, formatNumber } from "../../ui/format";
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

/** The rule that refused it, and what it held against it. */
function denialFacts({ denial }: RequestTrace): [string, ReactNode][] {
  if (!denial) return [];
  const { rule, measured, allowed, window, freesAt } = denial;
  const counted = measured != null && allowed != null;
  return [
    [m.fields.rule, rule],
    ...(counted
      ? [
          [
            m.fields.measured,
            m.against(formatNumber(measured), formatNumber(allowed)) + (window ? m.per(window) : ""),
          ] satisfies [string, ReactNode],
        ]
      : []),
    ...(freesAt ? [[m.fields.frees, formatDateTime(freesAt)] satisfies [string, ReactNode]] : []),
  ];
}

/** Parts of the tokens, where there are any. */
const tokenFacts = (row: RequestTrace): [string, ReactNode][] =>
  (
    [
      [m.fields.cached, row.cachedInputTokens],
      [m.fields.cacheWrite, row.cacheWriteTokens],
      [m.fields.reasoning, row.reasoningTokens],
    ] as const
  ).flatMap(([name, value]) => (value ? [[name, count(value)] satisfies [string, ReactNode]] : []));

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
    ...tokenFacts(row),
    ...(row.estimated ? [[m.fields.estimated, messages.yes] satisfies [string, ReactNode]] : []),
    [m.fields.cost, cost(row)],
    ...(row.finishReason
      ? [[m.fields.finish, <code key="finish">{row.finishReason}</code>] satisfies [string, ReactNode]]
      : []),
    [m.fields.firstByte, row.firstByteMs == null ? m.unknown : formatDuration(row.firstByteMs)],
    ...(row.firstTokenMs == null
      ? []
      : [[m.fields.firstToken, formatDuration(row.firstTokenMs)] satisfies [string, ReactNode]]),
    [m.fields.duration, formatDuration(row.durationMs)],
    [m.fields.streamed, row.streamed ? messages.yes : messages.no],
    [m.fields.node, known(row.node)],
    [m.fields.revision, String(row.revision)],
    ...denialFacts(row),
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
