/** API keys. */
import { useInfiniteQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { KeyRound } from "lucide-react";
import { apiKeysQuery } from "../../api/api-keys";
import { KeyDialog } from "../../forms/key-dialog";
import { KeysTable } from "../../forms/keys-table";
import { More } from "../../forms/more";
import { useDenied } from "../../forms/session";
import { messages } from "../../messages";
import { Button } from "../../ui/button";
import { Empty } from "../../ui/empty";
import { SearchField } from "../../ui/field";
import { Loaded } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { TableSkeleton } from "../../ui/table";

const m = messages.keys;
const route = getRouteApi("/shell/api-keys");

const COMMAND = `curl -X POST "$LOCKGATE_API/api/v1/api-keys" \\
  -H "Authorization: Bearer $LOCKGATE_TOKEN" -H 'Content-Type: application/json' \\
  -d '{"name": "ci", "endpoints": ["openai"], "expiresIn": "90d"}'`;

export function ApiKeys() {
  const { q, generate } = route.useSearch();
  const navigate = route.useNavigate();
  const denied = useDenied("keys:write");
  const query = useInfiniteQuery(apiKeysQuery(q));
  const make = (
    <Button
      variant="primary"
      reason={denied}
      onClick={() => {
        void navigate({ search: (before) => ({ ...before, generate: true as const }) });
      }}
    >
      <KeyRound size={15} aria-hidden="true" />
      {m.generate}
    </Button>
  );
  return (
    <Page title={m.title} lead={m.lead} actions={make}>
      <div className="filters">
        <SearchField
          label={m.search}
          defaultValue={q}
          onChange={(event) => {
            void navigate({ search: event.target.value === "" ? {} : { q: event.target.value }, replace: true });
          }}
        />
      </div>
      <Loaded query={query} skeleton={<TableSkeleton columns={6} />}>
        {({ pages }) => {
          const rows = pages.flatMap((page) => page.data);
          if (rows.length > 0) return <KeysTable keys={rows} />;
          return q === undefined ? (
            <Empty sentence={m.empty} action={make} command={COMMAND} />
          ) : (
            <Empty sentence={m.noMatch(q)} />
          );
        }}
      </Loaded>
      <More query={query} />
      <KeyDialog
        open={generate === true}
        onClose={() => {
          void navigate({ search: q === undefined ? {} : { q }, replace: true });
        }}
      />
    </Page>
  );
}
