/** Deployments, with what can be done about each. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { RotateCcw, Square } from "lucide-react";
import { useState } from "react";
import { restore, undeploy } from "../api/deployments";
import type { Deployment, DeploymentStatus } from "../api/types";
import { messages } from "../messages";
import { paths } from "../paths";
import { Badge } from "../ui/badge";
import type { Tone } from "../ui/badge";
import { Confirm } from "../ui/dialog";
import { Menu } from "../ui/menu";
import type { MenuItem } from "../ui/menu";
import { ProblemPanel } from "../ui/problem-panel";
import { Table } from "../ui/table";
import type { Column } from "../ui/table";
import { Time } from "../ui/time";
import { useDenied } from "./session";

const m = messages.deployments;

const tones: Record<DeploymentStatus, Tone> = {
  deploying: "accent",
  deployed: "success",
  rejected: "danger",
  undeploying: "accent",
  undeployed: "neutral",
};

function EndpointLink({ deployment }: { deployment: Deployment }) {
  const to = deployment.endpointKind === "proxy" ? paths.proxy : paths.provider;
  return (
    <Link to={to} params={{ name: deployment.endpoint }}>
      {deployment.endpoint}
    </Link>
  );
}

export function DeploymentsTable({ deployments }: { deployments: readonly Deployment[] }) {
  const queries = useQueryClient();
  const denied = useDenied("deployments:write");
  const [asked, setAsked] = useState<Deployment>();
  const done = () => {
    setAsked(undefined);
    void queries.invalidateQueries({ queryKey: ["deployments"] });
  };
  const undeploying = useMutation({ mutationFn: (deployment: Deployment) => undeploy(deployment.id), onSuccess: done });
  const restoring = useMutation({ mutationFn: (deployment: Deployment) => restore(deployment.id), onSuccess: done });

  const actions = (deployment: Deployment): MenuItem[] => {
    if (denied !== undefined) return [];
    const items: MenuItem[] = [
      {
        id: "restore",
        label: m.restore,
        icon: <RotateCcw size={15} />,
        onSelect: () => {
          restoring.mutate(deployment);
        },
      },
    ];
    if (deployment.status === "deployed" || deployment.status === "deploying" || deployment.status === "rejected") {
      items.push({
        id: "undeploy",
        label: m.undeploy,
        icon: <Square size={15} />,
        danger: true,
        onSelect: () => {
          setAsked(deployment);
        },
      });
    }
    return items;
  };
  const columns: Column<Deployment>[] = [
    {
      id: "endpoint",
      header: m.columns.endpoint,
      main: true,
      cell: (deployment) => (
        <span className="row">
          <EndpointLink deployment={deployment} />
          <Badge plain>{m.version(deployment.version)}</Badge>
        </span>
      ),
    },
    {
      id: "gateway",
      header: m.columns.gateway,
      cell: (deployment) => (
        <Link to={paths.gateway} params={{ name: deployment.gateway }}>
          {deployment.gateway}
        </Link>
      ),
    },
    {
      id: "status",
      header: m.columns.status,
      cell: ({ status, rejection }) => (
        <span className="stack-tight">
          <span>
            <Badge tone={tones[status]} busy={status === "deploying" || status === "undeploying"}>
              {m.status[status]}
            </Badge>
          </span>
          {rejection && (
            <span className="small">
              <code>{rejection.pointer}</code> {rejection.message}
            </span>
          )}
        </span>
      ),
    },
    {
      id: "nodes",
      header: m.columns.nodes,
      end: true,
      cell: ({ progress }) => m.nodes(progress.acked, progress.nodes),
    },
    { id: "by", header: m.columns.by, cell: (deployment) => deployment.createdBy ?? "–" },
    { id: "when", header: m.columns.when, end: true, cell: (deployment) => <Time value={deployment.createdAt} /> },
    {
      id: "actions",
      header: "",
      end: true,
      cell: (deployment) => {
        const items = actions(deployment);
        return items.length === 0 ? null : (
          <Menu label={messages.actionsFor(`${deployment.endpoint} ${m.version(deployment.version)}`)} items={items} />
        );
      },
    },
  ];
  return (
    <div className="stack">
      {restoring.error !== null && <ProblemPanel error={restoring.error} />}
      <Table caption={m.title} columns={columns} rows={deployments} rowId={(deployment) => deployment.id} />
      {asked !== undefined && (
        <Confirm
          open
          title={m.undeployTitle(asked.endpoint, asked.gateway)}
          description={m.undeployText}
          action={m.undeploy}
          busy={undeploying.isPending}
          onClose={() => {
            undeploying.reset();
            setAsked(undefined);
          }}
          onConfirm={() => {
            undeploying.mutate(asked);
          }}
        >
          {undeploying.error !== null && <ProblemPanel error={undeploying.error} />}
        </Confirm>
      )}
    </div>
  );
}
