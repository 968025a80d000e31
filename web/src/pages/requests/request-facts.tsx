/** Everything known about one request, and what to do when it went wrong. */
import type { ReactNode } from "react";
import type { RequestRow } from "../../api/types";
import { Outcome, adviceFor, count } from "../../forms/requests-table";
import { messages } from "../../messages";
import { formatDateTime, formatDuration } from "../../ui/format";
import { Notice } from "../../ui/notice";

const m = messages.requests;

const known = (value: string | null | undefined): ReactNode => value || m.unknown;

export function RequestFacts({ row }: { row: RequestRow }) {
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
  ];
  return (
    <div className="stack">
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
