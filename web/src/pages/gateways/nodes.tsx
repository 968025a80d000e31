/** The nodes of a gateway: alive or not, what they have applied, what they refused. */
import type { Node } from "../../api/types";
import { messages } from "../../messages";
import { Badge } from "../../ui/badge";
import type { Tone } from "../../ui/badge";
import { Notice } from "../../ui/notice";
import { Table } from "../../ui/table";
import type { Column } from "../../ui/table";
import { Time } from "../../ui/time";

const m = messages.gateways;

const tones: Record<Node["status"], Tone> = {
  connected: "success",
  applying: "accent",
  stale: "warning",
  draining: "neutral",
  disconnected: "danger",
};

export function NodeStatus({ node }: { node: Node }) {
  if (node.rejected.length > 0 && node.status !== "disconnected") {
    return <Badge tone="danger">{m.rejecting(node.revision)}</Badge>;
  }
  return (
    <Badge tone={tones[node.status]} busy={node.status === "applying"}>
      {m.status[node.status]}
    </Badge>
  );
}

const columns: Column<Node>[] = [
  { id: "name", header: m.columns.name, main: true, cell: (node) => <strong>{node.name}</strong> },
  {
    id: "status",
    header: m.columns.status,
    cell: (node) => (
      <span className="stack-tight">
        <span>
          <NodeStatus node={node} />
        </span>
        {node.status === "disconnected" && <span className="muted small">{m.lastGood}</span>}
      </span>
    ),
  },
  { id: "revision", header: m.columns.revision, end: true, cell: (node) => `r${String(node.revision)}` },
  { id: "version", header: m.columns.version, cell: (node) => <span className="mono">{node.version}</span> },
  {
    id: "acked",
    header: m.columns.acked,
    end: true,
    cell: (node) => (node.ackedAt ? <Time value={node.ackedAt} /> : messages.never),
  },
  {
    id: "connected",
    header: m.columns.connected,
    end: true,
    cell: (node) => (node.connectedAt ? <Time value={node.connectedAt} /> : messages.never),
  },
];

export function NodesTable({ nodes }: { nodes: readonly Node[] }) {
  return (
    <div className="stack">
      <Table caption={m.nodes} columns={columns} rows={nodes} rowId={(node) => node.id} />
      {nodes.map((node) =>
        node.rejected.map((rejection) => (
          <Notice
            key={`${node.id} ${rejection.resource} ${rejection.pointer}`}
            tone="danger"
            title={`${node.name}: ${rejection.kind} ${rejection.name ?? rejection.resource}`}
          >
            <p>
              <code>{rejection.pointer}</code> {rejection.message}
            </p>
            <p className="small">
              <code>{rejection.code}</code> · {m.revision(rejection.revision)}
              {rejection.since && (
                <>
                  {" · "}
                  <Time value={rejection.since} />
                </>
              )}
            </p>
          </Notice>
        )),
      )}
    </div>
  );
}
