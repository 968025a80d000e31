/** LLM proxies. */
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, getRouteApi } from "@tanstack/react-router";
import { Plus } from "lucide-react";
import { providerOf, proxiesQuery } from "../../api/proxies";
import { More } from "../../forms/more";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Empty } from "../../ui/empty";
import { SearchField } from "../../ui/field";
import { Loaded } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { TableSkeleton } from "../../ui/table";
import { EndpointList } from "./endpoint-list";

const m = messages.proxies;
const route = getRouteApi("/shell/llm-proxies");

const COMMAND = `curl -X POST "$LOCKGATE_API/api/v1/llm-proxies" \\
  -H "Authorization: Bearer $LOCKGATE_TOKEN" -H 'Content-Type: application/json' \\
  -d '{"name": "assistant", "context": "/assistant", "provider": "openai"}'`;

export function Proxies() {
  const { q } = route.useSearch();
  const navigate = route.useNavigate();
  const query = useInfiniteQuery(proxiesQuery(q));
  const add = (
    <Link to={paths.newProxy} className="button button-primary">
      <Plus size={16} aria-hidden="true" />
      {m.add}
    </Link>
  );
  return (
    <Page title={m.title} lead={m.lead} actions={add}>
      <div className="filters">
        <SearchField
          label={m.search}
          defaultValue={q}
          onChange={(event) => {
            void navigate({ search: event.target.value === "" ? {} : { q: event.target.value }, replace: true });
          }}
        />
      </div>
      <Loaded query={query} skeleton={<TableSkeleton columns={5} />}>
        {({ pages }) => {
          const rows = pages.flatMap((page) => page.data);
          if (rows.length === 0) {
            return q === undefined ? (
              <Empty sentence={m.empty} action={add} command={COMMAND} />
            ) : (
              <Empty sentence={m.noMatch(q)} />
            );
          }
          return (
            <EndpointList
              caption={m.title}
              to={paths.proxy}
              rows={rows}
              headers={m.columns}
              behind={{
                header: m.columns.provider,
                cell: (row) => (
                  <Link to={paths.provider} params={{ name: providerOf(row) }}>
                    {providerOf(row)}
                  </Link>
                ),
              }}
            />
          );
        }}
      </Loaded>
      <More query={query} />
    </Page>
  );
}
