/** What belongs to one endpoint: the keys that open it and its deployments. */
import { useInfiniteQuery } from "@tanstack/react-query";
import { KeyRound } from "lucide-react";
import { apiKeysQuery } from "../../api/api-keys";
import { deploymentsQuery } from "../../api/deployments";
import { DeploymentsTable } from "../../forms/deployments-table";
import { KeysTable } from "../../forms/keys-table";
import { More } from "../../forms/more";
import { useDenied } from "../../forms/session";
import { messages } from "../../messages";
import { Button } from "../../ui/button";
import { Empty } from "../../ui/empty";
import { Loaded } from "../../ui/loaded";
import { TableSkeleton } from "../../ui/table";

export function EndpointKeys({ endpoint, onGenerate }: { endpoint: string; onGenerate: () => void }) {
  const query = useInfiniteQuery(apiKeysQuery());
  const denied = useDenied("keys:write");
  const generate = (
    <Button variant="primary" reason={denied} onClick={onGenerate}>
      <KeyRound size={15} aria-hidden="true" />
      {messages.keys.generate}
    </Button>
  );
  return (
    <div className="stack">
      <Loaded query={query} skeleton={<TableSkeleton columns={6} rows={2} />}>
        {({ pages }) => {
          const keys = pages.flatMap((page) => page.data).filter((key) => key.endpoints.includes(endpoint));
          if (keys.length === 0) return <Empty sentence={messages.keys.emptyHere} action={generate} />;
          return (
            <>
              <div className="row">{generate}</div>
              <KeysTable keys={keys} />
            </>
          );
        }}
      </Loaded>
      <More query={query} />
    </div>
  );
}

export function EndpointDeployments({ endpoint }: { endpoint: string }) {
  const query = useInfiniteQuery(deploymentsQuery({ endpoint }));
  return (
    <div className="stack">
      <Loaded query={query} skeleton={<TableSkeleton columns={6} rows={2} />}>
        {({ pages }) => {
          const rows = pages.flatMap((page) => page.data);
          return rows.length === 0 ? (
            <Empty sentence={messages.deployments.emptyHere} />
          ) : (
            <DeploymentsTable deployments={rows} />
          );
        }}
      </Loaded>
      <More query={query} />
    </div>
  );
}
