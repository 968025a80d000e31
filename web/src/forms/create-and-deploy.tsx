/** Saving an endpoint and sending it to a gateway in one go, with the second half repeatable if it fails. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { deploy, remember } from "../api/deployments";
import { gatewaysQuery } from "../api/gateways";
import { messages } from "../messages";
import { Button } from "../ui/button";
import { SelectField } from "../ui/field";
import { Notice } from "../ui/notice";
import { ProblemPanel } from "../ui/problem-panel";
import { useDenied } from "./session";

const m = messages.endpoint;

/** The name of what was saved, and the deployment under way if there is one. */
export interface Created {
  name: string;
  deployment?: string;
}

interface Options<V> {
  /** Saves and answers with the name. */
  create: (values: V) => Promise<string>;
  onDone: (created: Created) => void;
  onRefused: (error: unknown) => void;
}

/** The two steps and what stands between them. */
export function useCreateAndDeploy<V>({ create, onDone, onRefused }: Options<V>) {
  const queries = useQueryClient();
  const gateways = useQuery(gatewaysQuery).data ?? [];
  const [chosen, setChosen] = useState<string>();
  const [saved, setSaved] = useState<string>();
  const gateway = chosen ?? gateways[0]?.name;

  const deployment = useMutation({
    mutationFn: ({ name, to }: { name: string; to: string }) => deploy(name, to),
    onSuccess: (made, { name }) => {
      remember(queries, made);
      onDone({ name, deployment: made.id });
    },
  });
  const creation = useMutation({
    mutationFn: ({ values }: { values: V; andDeploy: boolean }) => create(values),
    onSuccess: (name, { andDeploy }) => {
      void queries.invalidateQueries({ queryKey: ["providers"] });
      void queries.invalidateQueries({ queryKey: ["proxies"] });
      setSaved(name);
      if (andDeploy && gateway !== undefined) deployment.mutate({ name, to: gateway });
      else onDone({ name });
    },
    onError: onRefused,
  });
  return { gateways, gateway, setChosen, saved, creation, deployment };
}

interface FootProps {
  flow: Pick<
    ReturnType<typeof useCreateAndDeploy<never>>,
    "gateways" | "gateway" | "setChosen" | "saved" | "deployment"
  > & { creation: { isPending: boolean; error: unknown } };
  /** Saves without deploying; submitting the form does both. */
  submitOnly: () => void;
  onOpen: (name: string) => void;
}

/** The buttons under the form, and what went wrong. */
export function CreateFoot({ flow, submitOnly, onOpen }: FootProps) {
  const mayWrite = useDenied("endpoints:write");
  const mayDeploy = useDenied("deployments:write");
  const { gateways, gateway, setChosen, saved, creation, deployment } = flow;
  const busy = creation.isPending || deployment.isPending ? messages.working : undefined;
  if (saved !== undefined && deployment.error !== null) {
    const again = () => {
      if (gateway !== undefined) deployment.mutate({ name: saved, to: gateway });
    };
    return (
      <>
        <Notice tone="warning" title={m.savedNotDeployed(saved)} />
        <ProblemPanel error={deployment.error} />
        <div className="form-foot">
          <Button variant="primary" reason={busy} onClick={again}>
            {m.deployAgain}
          </Button>
          <Button
            onClick={() => {
              onOpen(saved);
            }}
          >
            {m.open(saved)}
          </Button>
        </div>
      </>
    );
  }
  return (
    <>
      {gateways.length > 1 && (
        <SelectField
          label={m.gateway}
          value={gateway ?? ""}
          onChange={(event) => {
            setChosen(event.target.value);
          }}
          options={gateways.map((each) => ({ value: each.name, label: each.displayName || each.name }))}
        />
      )}
      {creation.error !== null && <ProblemPanel error={creation.error} />}
      <div className="form-foot">
        <Button
          variant="primary"
          type="submit"
          reason={mayWrite ?? mayDeploy ?? busy ?? (gateway === undefined ? m.noGateway : undefined)}
        >
          {m.createAndDeploy}
        </Button>
        <Button
          reason={mayWrite ?? busy}
          onClick={() => {
            submitOnly();
          }}
        >
          {m.createOnly}
        </Button>
      </div>
    </>
  );
}
