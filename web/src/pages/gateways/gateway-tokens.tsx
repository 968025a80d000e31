/** The tokens by which nodes prove that they belong to a gateway. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { useState } from "react";
import { createGatewayToken, gatewayTokensQuery, removeGatewayToken } from "../../api/gateways";
import type { GatewayToken } from "../../api/types";
import { useDenied } from "../../forms/session";
import { messages } from "../../messages";
import { Button } from "../../ui/button";
import { Copyable } from "../../ui/copy";
import { Confirm, Dialog } from "../../ui/dialog";
import { Checkbox } from "../../ui/field";
import { Loaded } from "../../ui/loaded";
import { ProblemPanel } from "../../ui/problem-panel";
import { Table, TableSkeleton } from "../../ui/table";
import type { Column } from "../../ui/table";
import { Time } from "../../ui/time";

const m = messages.gateways;
const ACTIVE_AT_MOST = 2;

export function GatewayTokens({ gateway }: { gateway: string }) {
  const queries = useQueryClient();
  const query = useQuery(gatewayTokensQuery(gateway));
  const denied = useDenied("gateway-tokens:write");
  const [made, setMade] = useState<string>();
  const [asked, setAsked] = useState<GatewayToken>();
  const refresh = () => void queries.invalidateQueries({ queryKey: gatewayTokensQuery(gateway).queryKey });
  const creation = useMutation({
    gcTime: 0,
    mutationFn: () => createGatewayToken(gateway),
    onSuccess: ({ token }) => {
      setMade(token);
      refresh();
    },
  });
  const removal = useMutation({
    mutationFn: (token: GatewayToken) => removeGatewayToken(gateway, token.id),
    onSuccess: () => {
      setAsked(undefined);
      refresh();
    },
  });
  const full = (query.data?.length ?? 0) >= ACTIVE_AT_MOST ? m.twoTokens : undefined;
  const columns: Column<GatewayToken>[] = [
    { id: "id", header: m.tokenColumns.id, main: true, cell: (token) => <code>{token.display}</code> },
    {
      id: "created",
      header: m.tokenColumns.created,
      end: true,
      cell: (token) => (token.createdAt ? <Time value={token.createdAt} /> : null),
    },
    {
      id: "expires",
      header: m.tokenColumns.expires,
      end: true,
      cell: (token) => (token.expiresAt ? <Time value={token.expiresAt} /> : messages.never),
    },
    {
      id: "actions",
      header: "",
      end: true,
      cell: (token) => (
        <Button
          size="small"
          reason={denied}
          onClick={() => {
            removal.reset();
            setAsked(token);
          }}
        >
          {m.revokeToken}
        </Button>
      ),
    },
  ];
  return (
    <div className="stack">
      <div className="row-between">
        <p className="muted grow">{m.tokensLead}</p>
        <Button
          variant="primary"
          reason={denied ?? full ?? (creation.isPending ? messages.working : undefined)}
          onClick={() => {
            creation.mutate();
          }}
        >
          <Plus size={15} aria-hidden="true" />
          {m.newToken}
        </Button>
      </div>
      {creation.error !== null && <ProblemPanel error={creation.error} />}
      <Loaded query={query} skeleton={<TableSkeleton columns={3} rows={2} />}>
        {(tokens) => <Table caption={m.tokens} columns={columns} rows={tokens} rowId={(token) => token.id} />}
      </Loaded>
      {made !== undefined && (
        <TokenOnce
          token={made}
          onClose={() => {
            setMade(undefined);
          }}
        />
      )}
      <Confirm
        open={asked !== undefined}
        title={m.revokeTokenTitle}
        description={m.revokeTokenText}
        action={m.revokeToken}
        busy={removal.isPending}
        onClose={() => {
          setAsked(undefined);
        }}
        onConfirm={() => {
          if (asked !== undefined) removal.mutate(asked);
        }}
      >
        {removal.error !== null && <ProblemPanel error={removal.error} />}
      </Confirm>
    </div>
  );
}

function TokenOnce({ token, onClose }: { token: string; onClose: () => void }) {
  const [taken, setTaken] = useState(false);
  const [acknowledged, setAcknowledged] = useState(false);
  const safe = taken || acknowledged;
  return (
    <Dialog open shape="wide" title={m.tokenOnce} description={m.tokenOnceText} dismissable={safe} onClose={onClose}>
      <Copyable
        value={token}
        label={m.token}
        onCopied={() => {
          setTaken(true);
        }}
      />
      <Checkbox
        label={m.acknowledge}
        checked={acknowledged}
        onChange={(event) => {
          setAcknowledged(event.target.checked);
        }}
      />
      <div className="dialog-foot">
        <Button variant="primary" reason={safe ? undefined : m.doneReason} onClick={onClose}>
          {messages.keys.done}
        </Button>
      </div>
    </Dialog>
  );
}
