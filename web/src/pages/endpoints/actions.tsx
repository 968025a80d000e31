/** What can be done with an endpoint as a whole: deploy, disable, delete. */
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { Pause, Play, Trash2 } from "lucide-react";
import { useState } from "react";
import { gatewaysQuery } from "../../api/gateways";
import type { Endpoint } from "../../api/types";
import { useDeploy, useRemoveEndpoint, useReplaceEndpoint } from "../../forms/endpoint-change";
import { useDenied } from "../../forms/session";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Button } from "../../ui/button";
import { Confirm, Dialog } from "../../ui/dialog";
import { SelectField } from "../../ui/field";
import { Menu } from "../../ui/menu";
import { ProblemPanel } from "../../ui/problem-panel";

const m = messages.endpoint;

interface ActionsProps {
  endpoint: Endpoint;
  onDeployed: (deployment: string) => void;
}

export function Actions({ endpoint, onDeployed }: ActionsProps) {
  const mayDeploy = useDenied("deployments:write");
  const mayWrite = useDenied("endpoints:write");
  const navigate = useNavigate();
  const gateways = useQuery(gatewaysQuery).data ?? [];
  const [choosing, setChoosing] = useState<string>();
  const [removing, setRemoving] = useState(false);
  const deploying = useDeploy((deployment) => {
    setChoosing(undefined);
    onDeployed(deployment);
  });
  const saving = useReplaceEndpoint(endpoint);
  const removal = useRemoveEndpoint(() =>
    navigate({ to: endpoint.kind === "provider" ? paths.providers : paths.proxies }),
  );

  const live = new Set(endpoint.deployments.filter((each) => each.status !== "undeployed").map((each) => each.gateway));
  const everywhere = gateways.length > 0 && gateways.every((each) => live.has(each.name));
  const refused = endpoint.deployments.some((each) => each.status === "rejected");
  const first = gateways[0]?.name;
  const reason =
    mayDeploy ??
    (deploying.isPending ? messages.working : undefined) ??
    (first === undefined ? m.noGateway : undefined) ??
    (everywhere && !endpoint.pendingChanges && !refused ? m.nothingToDeploy : undefined);
  const start = () => {
    if (first === undefined) return;
    if (gateways.length === 1) deploying.mutate({ endpoint: endpoint.name, gateway: first });
    else setChoosing(first);
  };
  const toggle = () => {
    saving.mutation.mutate({ read: endpoint, change: { disabled: !endpoint.disabled } });
  };
  const error = saving.mutation.error ?? (choosing === undefined ? deploying.error : null);
  return (
    <>
      <Button
        variant={endpoint.pendingChanges || live.size === 0 ? "primary" : "secondary"}
        reason={reason}
        onClick={start}
      >
        {live.size > 0 && endpoint.pendingChanges ? m.deployChanges : m.deploy}
      </Button>
      {mayWrite === undefined && (
        <Menu
          label={messages.actionsFor(endpoint.name)}
          items={[
            {
              id: "disable",
              label: endpoint.disabled ? m.enable : m.disable,
              icon: endpoint.disabled ? <Play size={15} /> : <Pause size={15} />,
              onSelect: toggle,
            },
            {
              id: "remove",
              label: m.remove,
              icon: <Trash2 size={15} />,
              danger: true,
              onSelect: () => {
                setRemoving(true);
              },
            },
          ]}
        />
      )}
      {error !== null && (
        <Dialog
          open
          title={messages.problem.unexpected}
          onClose={() => {
            saving.mutation.reset();
            deploying.reset();
          }}
        >
          <ProblemPanel error={error} />
        </Dialog>
      )}
      {choosing !== undefined && (
        <Dialog
          open
          title={m.deploy}
          onClose={() => {
            setChoosing(undefined);
          }}
        >
          <SelectField
            label={m.gateway}
            value={choosing}
            onChange={(event) => {
              setChoosing(event.target.value);
            }}
            options={gateways.map((each) => ({ value: each.name, label: each.displayName || each.name }))}
          />
          {deploying.error !== null && <ProblemPanel error={deploying.error} />}
          <div className="dialog-foot">
            <Button
              variant="primary"
              reason={deploying.isPending ? messages.working : undefined}
              onClick={() => {
                deploying.mutate({ endpoint: endpoint.name, gateway: choosing });
              }}
            >
              {m.deploy}
            </Button>
          </div>
        </Dialog>
      )}
      <Confirm
        open={removing}
        title={m.removeTitle(endpoint.name)}
        description={m.removeText}
        action={m.remove}
        busy={removal.isPending}
        reason={live.size === 0 ? undefined : m.undeployFirst([...live].join(", "))}
        onClose={() => {
          removal.reset();
          setRemoving(false);
        }}
        onConfirm={() => {
          removal.mutate(endpoint);
        }}
      >
        {removal.error !== null && <ProblemPanel error={removal.error} />}
      </Confirm>
    </>
  );
}
