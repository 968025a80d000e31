/** All deployments, one timeline. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { deploymentsQuery } from "../../api/deployments";
import { gatewaysQuery } from "../../api/gateways";
import { DeploymentsTable } from "../../forms/deployments-table";
import { More } from "../../forms/more";
import { messages } from "../../messages";
import { Empty } from "../../ui/empty";
import { FilterSelect } from "../../ui/field";
import { Loaded } from "../../ui/loaded";
import { Page } from "../../ui/page";
import { TableSkeleton } from "../../ui/table";

const m = messages.deployments;
const route = getRouteApi("/shell/deployments");

const STATUSES = Object.entries(m.status).map(([value, label]) => ({ value, label }));

export function Deployments() {
  const filter = route.useSearch();
  const navigate = route.useNavigate();
  const query = useInfiniteQuery(deploymentsQuery(filter));
  const gateways = useQuery(gatewaysQuery).data ?? [];
  const choose = (name: "status" | "gateway") => (event: { target: { value: string } }) => {
    const { [name]: _, ...others } = filter;
    const { value } = event.target;
    void navigate({ search: value === "" ? others : { ...others, [name]: value }, replace: true });
  };
  return (
    <Page title={m.title} lead={m.lead}>
      <div className="filters">
        <FilterSelect
          label={m.columns.status}
          value={filter.status ?? ""}
          onChange={choose("status")}
          options={[{ value: "", label: m.anyStatus }, ...STATUSES]}
        />
        <FilterSelect
          label={m.columns.gateway}
          value={filter.gateway ?? ""}
          onChange={choose("gateway")}
          options={[{ value: "", label: m.anyGateway }, ...gateways.map(({ name }) => ({ value: name, label: name }))]}
        />
      </div>
      <Loaded query={query} skeleton={<TableSkeleton columns={6} rows={6} />}>
        {({ pages }) => {
          const rows = pages.flatMap((page) => page.data);
          if (rows.length > 0) return <DeploymentsTable deployments={rows} />;
          return <Empty sentence={Object.keys(filter).length > 0 ? m.noMatch : m.empty} />;
        }}
      </Loaded>
      <More query={query} />
    </Page>
  );
}
