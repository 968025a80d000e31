/** LLM providers. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, getRouteApi } from "@tanstack/react-router";
import { Plus } from "lucide-react";
import { providersQuery } from "../../api/providers";
import { templatesQuery } from "../../api/templates";
import { More } from "../../forms/more";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Empty } from "../../ui/empty";
import { SearchField } from "../../ui/field";
import { Loaded } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { TableSkeleton } from "../../ui/table";
import { EndpointList } from "./endpoint-list";

const m = messages.providers;
const route = getRouteApi("/shell/llm-providers");

const COMMAND = `curl -X POST "$LOCKGATE_API/api/v1/llm-providers" \\
  -H "Authorization: Bearer $LOCKGATE_TOKEN" -H 'Content-Type: application/json' \\
  -d '{"name": "openai", "template": "openai", "context": "/openai", "upstream": {"credential": {"value": "sk-..."}}}'`;

export function Providers() {
  const { q } = route.useSearch();
  const navigate = route.useNavigate();
  const query = useInfiniteQuery(providersQuery(q));
  const templates = useQuery(templatesQuery).data;
  const add = (
    <Link to={paths.newProvider} className="button button-primary">
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
              to={paths.provider}
              rows={rows}
              headers={m.columns}
              behind={{
                header: m.columns.template,
                cell: (row) => templates?.find((each) => each.name === row.template)?.displayName ?? row.template,
              }}
            />
          );
        }}
      </Loaded>
      <More query={query} />
    </Page>
  );
}
