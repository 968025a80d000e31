/** API keys in rows. */
import { Link } from "@tanstack/react-router";
import type { ApiKey } from "../api/types";
import { messages } from "../messages";
import { paths } from "../paths";
import { Badge } from "../ui/badge";
import type { Tone } from "../ui/badge";
import { Menu } from "../ui/menu";
import { Table } from "../ui/table";
import type { Column } from "../ui/table";
import { Time } from "../ui/time";
import { useKeyActions } from "./key-actions";

const m = messages.keys;

const tones: Record<ApiKey["status"], Tone> = {
  active: "success",
  disabled: "neutral",
  revoked: "danger",
  expired: "warning",
};

export function KeyStatus({ status }: { status: ApiKey["status"] }) {
  return <Badge tone={tones[status]}>{m.status[status]}</Badge>;
}

export function KeysTable({ keys }: { keys: readonly ApiKey[] }) {
  const { items, dialogs } = useKeyActions();
  const columns: Column<ApiKey>[] = [
    {
      id: "name",
      header: m.columns.name,
      main: true,
      cell: (key) => (
        <Link to={paths.apiKey} params={{ id: key.id }}>
          {key.name}
        </Link>
      ),
    },
    { id: "key", header: m.columns.key, cell: (key) => <span className="mono">{key.display}</span> },
    {
      id: "endpoints",
      header: m.columns.endpoints,
      cell: (key) => (
        <span className="row">
          {key.endpoints.map((name) => (
            <Badge key={name} plain>
              {name}
            </Badge>
          ))}
        </span>
      ),
    },
    { id: "status", header: m.columns.status, cell: (key) => <KeyStatus status={key.status} /> },
    {
      id: "expires",
      header: m.columns.expires,
      end: true,
      cell: (key) => (key.expiresAt ? <Time value={key.expiresAt} /> : m.noExpiry),
    },
    {
      id: "used",
      header: m.columns.used,
      end: true,
      cell: (key) => (key.lastUsedAt ? <Time value={key.lastUsedAt} /> : m.neverUsed),
    },
    {
      id: "actions",
      header: "",
      end: true,
      cell: (key) => {
        const actions = items(key);
        return actions.length === 0 ? null : <Menu label={messages.actionsFor(key.name)} items={actions} />;
      },
    },
  ];
  return (
    <div className="stack">
      {dialogs}
      <Table caption={m.title} columns={columns} rows={keys} rowId={(key) => key.id} />
    </div>
  );
}
