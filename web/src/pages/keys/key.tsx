/** One API key. */
import { useQuery } from "@tanstack/react-query";
import { Link, getRouteApi, useNavigate } from "@tanstack/react-router";
import { apiKeyQuery } from "../../api/api-keys";
import type { ApiKey } from "../../api/types";
import { ApiView } from "../../forms/api-view";
import { useKeyActions } from "../../forms/key-actions";
import { KeyStatus } from "../../forms/keys-table";
import { useLeaving } from "../../forms/removal";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Badge } from "../../ui/badge";
import { Loaded, PageSkeleton } from "../../ui/loaded";
import { Menu } from "../../ui/menu";
import { Page } from "../../ui/page";
import { Tabs } from "../../ui/tabs";
import { Time } from "../../ui/time";

const m = messages.keys;
const route = getRouteApi("/shell/api-keys/$id");

export function ApiKeyPage() {
  const { id } = route.useParams();
  const leaving = useLeaving();
  const query = useQuery({ ...apiKeyQuery(id), enabled: !leaving });
  const navigate = useNavigate();
  const { items, dialogs } = useKeyActions(() => navigate({ to: paths.apiKeys }));
  const key = query.data;
  const actions = key === undefined ? [] : items(key);
  return (
    <Page
      title={key?.name ?? id}
      crumb={<Link to={paths.apiKeys}>{m.title}</Link>}
      beside={key && <KeyStatus status={key.status} />}
      actions={key && actions.length > 0 && <Menu label={messages.actionsFor(key.name)} items={actions} />}
    >
      {dialogs}
      <Loaded query={query} skeleton={<PageSkeleton />}>
        {(found) => <KeyTabs apiKey={found} />}
      </Loaded>
    </Page>
  );
}

function KeyTabs({ apiKey }: { apiKey: ApiKey }) {
  const { tab } = route.useSearch();
  const navigate = route.useNavigate();
  return (
    <Tabs
      label={messages.endpoint.tabsLabel}
      value={tab ?? "overview"}
      onChange={(next) => {
        void navigate({ search: next === "overview" ? {} : { tab: next } });
      }}
      tabs={[
        {
          id: "overview",
          label: m.tabs.overview,
          content: (
            <div className="card card-body">
              <h2>{m.facts}</h2>
              <dl className="facts">
                <dt>{m.columns.key}</dt>
                <dd className="mono">{apiKey.display}</dd>
                <dt>{m.columns.endpoints}</dt>
                <dd className="row">
                  {apiKey.endpoints.map((name) => (
                    <Badge key={name} plain>
                      {name}
                    </Badge>
                  ))}
                </dd>
                <dt>{m.columns.expires}</dt>
                <dd>{apiKey.expiresAt ? <Time value={apiKey.expiresAt} /> : m.noExpiry}</dd>
                <dt>{m.columns.used}</dt>
                <dd>{apiKey.lastUsedAt ? <Time value={apiKey.lastUsedAt} /> : m.neverUsed}</dd>
                <dt>{messages.endpoint.created}</dt>
                <dd>
                  <Time value={apiKey.createdAt} />
                </dd>
              </dl>
            </div>
          ),
        },
        {
          id: "api",
          label: m.tabs.api,
          content: <ApiView resource={apiKey} collection="api-keys" handle={apiKey.id} />,
        },
      ]}
    />
  );
}
