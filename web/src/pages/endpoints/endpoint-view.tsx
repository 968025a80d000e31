/** A provider or a proxy in full: its head, its actions, its tabs. */
import { Link } from "@tanstack/react-router";
import type { Endpoint } from "../../api/types";
import { ApiView } from "../../forms/api-view";
import { ConnectionForm } from "../../forms/connection-form";
import { EndpointStatus } from "../../forms/endpoint-status";
import { KeyDialog } from "../../forms/key-dialog";
import { SecurityForm } from "../../forms/security-form";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Page } from "../../ui/page";
import { Tabs } from "../../ui/tabs";
import { Actions } from "./actions";
import { EndpointDeployments, EndpointKeys } from "./belongings";
import { Overview } from "./overview";

const m = messages.endpoint;

export interface EndpointSearch {
  tab?: "overview" | "connection" | "security" | "keys" | "deployments" | "api";
  deployment?: string;
  generate?: true;
}

interface EndpointViewProps {
  endpoint: Endpoint;
  search: EndpointSearch;
  onSearch: (search: EndpointSearch, replace: boolean) => void;
}

const without = (search: EndpointSearch, key: keyof EndpointSearch): EndpointSearch => {
  const { [key]: _, ...rest } = search;
  return rest;
};

export function EndpointView({ endpoint, search, onSearch }: EndpointViewProps) {
  const isProvider = endpoint.kind === "provider";
  const generate = () => {
    onSearch({ ...search, generate: true }, false);
  };
  return (
    <Page
      title={endpoint.displayName || endpoint.name}
      beside={<EndpointStatus endpoint={endpoint} />}
      lead={endpoint.description || undefined}
      crumb={
        isProvider ? (
          <Link to={paths.providers}>{messages.providers.title}</Link>
        ) : (
          <Link to={paths.proxies}>{messages.proxies.title}</Link>
        )
      }
      actions={
        <Actions
          endpoint={endpoint}
          onDeployed={(deployment) => {
            onSearch({ deployment }, false);
          }}
        />
      }
    >
      <Tabs
        label={m.tabsLabel}
        value={search.tab ?? "overview"}
        onChange={(tab) => {
          onSearch({ ...without(search, "tab"), ...(tab === "overview" ? {} : { tab }) }, false);
        }}
        tabs={[
          {
            id: "overview",
            label: m.tabs.overview,
            content: <Overview endpoint={endpoint} deployment={search.deployment} onGenerate={generate} />,
          },
          {
            id: "connection",
            label: m.tabs.connection,
            content: (
              <div className="card card-body card-form">
                <ConnectionForm endpoint={endpoint} />
              </div>
            ),
          },
          {
            id: "security",
            label: m.tabs.security,
            content: (
              <div className="card card-body card-form">
                <SecurityForm endpoint={endpoint} />
              </div>
            ),
          },
          { id: "keys", label: m.tabs.keys, content: <EndpointKeys endpoint={endpoint.name} onGenerate={generate} /> },
          { id: "deployments", label: m.tabs.deployments, content: <EndpointDeployments endpoint={endpoint.name} /> },
          {
            id: "api",
            label: m.tabs.api,
            content: (
              <ApiView
                resource={endpoint}
                collection={isProvider ? "llm-providers" : "llm-proxies"}
                handle={endpoint.name}
                deployable
              />
            ),
          },
        ]}
      />
      <KeyDialog
        open={search.generate === true}
        endpoint={endpoint.name}
        onClose={() => {
          onSearch(without(search, "generate"), true);
        }}
      />
    </Page>
  );
}
