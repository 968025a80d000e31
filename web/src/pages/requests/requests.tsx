/** The request log, with new rows arriving on top. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useState } from "react";
import { apiKeysQuery } from "../../api/api-keys";
import { endpointsQuery } from "../../api/endpoints";
import { requestsQuery } from "../../api/requests";
import type { RequestFilter } from "../../api/requests";
import { usageQuery } from "../../api/usage";
import { More } from "../../forms/more";
import { RequestsTable } from "../../forms/requests-table";
import { messages } from "../../messages";
import { Dialog } from "../../ui/dialog";
import { Empty } from "../../ui/empty";
import { FilterSelect } from "../../ui/field";
import { Loaded } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { TableSkeleton } from "../../ui/table";
import { RequestDetail } from "./request-facts";

const m = messages.requests;
const route = getRouteApi("/shell/requests");

const OUTCOMES = Object.entries(m.outcomes).map(([value, label]) => ({ value, label: label ?? value }));

export function Requests() {
  const { request, ...filter } = route.useSearch();
  const navigate = route.useNavigate();
  const [since] = useState(Date.now);
  const query = useInfiniteQuery(requestsQuery(filter));
  const endpoints = useQuery(endpointsQuery).data ?? [];
  const keys = useInfiniteQuery(apiKeysQuery()).data?.pages.flatMap((page) => page.data) ?? [];
  const filtered = Object.keys(filter).length > 0;
  const choose = (name: keyof RequestFilter) => (event: { target: { value: string } }) => {
    const { [name]: _, ...others } = filter;
    const { value } = event.target;
    void navigate({ search: value === "" ? others : { ...others, [name]: value }, replace: true });
  };
  const rows = query.data?.pages.flatMap((page) => page.data) ?? [];
  const models = (useQuery(usageQuery("30d", "model")).data?.data ?? []).flatMap(({ model }) => (model ? [model] : []));
  return (
    <Page title={m.title} lead={m.lead}>
      <div className="filters">
        <FilterSelect
          label={m.endpoint}
          value={filter.endpoint ?? ""}
          onChange={choose("endpoint")}
          options={[
            { value: "", label: m.anyEndpoint },
            ...endpoints.map(({ name }) => ({ value: name, label: name })),
          ]}
        />
        <FilterSelect
          label={m.key}
          value={filter.key ?? ""}
          onChange={choose("key")}
          options={[{ value: "", label: m.anyKey }, ...keys.map(({ name }) => ({ value: name, label: name }))]}
        />
        <FilterSelect
          label={m.provider}
          value={filter.provider ?? ""}
          onChange={choose("provider")}
          options={[
            { value: "", label: m.anyProvider },
            ...endpoints.filter(({ kind }) => kind === "provider").map(({ name }) => ({ value: name, label: name })),
          ]}
        />
        <FilterSelect
          label={m.model}
          value={filter.model ?? ""}
          onChange={choose("model")}
          options={[{ value: "", label: m.anyModel }, ...models.map((name) => ({ value: name, label: name }))]}
        />
        <FilterSelect
          label={m.outcome}
          value={filter.outcome ?? ""}
          onChange={choose("outcome")}
          options={[{ value: "", label: m.anyOutcome }, ...OUTCOMES]}
        />
      </div>
      <Loaded query={query} skeleton={<TableSkeleton columns={8} rows={8} />}>
        {() =>
          rows.length === 0 ? (
            <Empty sentence={filtered ? m.noMatch : m.empty} />
          ) : (
            <RequestsTable rows={rows} since={since} />
          )
        }
      </Loaded>
      <More query={query} />
      {request !== undefined && (
        <Dialog
          open
          shape="drawer"
          title={m.drawer}
          onClose={() => {
            void navigate({ search: filter, replace: true });
          }}
        >
          <RequestDetail key={request} id={request} />
        </Dialog>
      )}
    </Page>
  );
}
