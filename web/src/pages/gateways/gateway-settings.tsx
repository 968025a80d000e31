/** Changing a gateway's public addresses and the private networks its providers may reach. */
import { useForm } from "react-hook-form";
import { loadGateway, gatewayQuery, replaceGateway } from "../../api/gateways";
import type { GatewayChange } from "../../api/gateways";
import type { Gateway } from "../../api/types";
import { useBase } from "../../forms/endpoint-fields";
import { placeProblem } from "../../forms/problems";
import { SaveOutcome, useReplace } from "../../forms/replace";
import { useDenied } from "../../forms/session";
import { messages } from "../../messages";
import { Button } from "../../ui/button";
import { TextArea, TextField } from "../../ui/field";

const m = messages.gateways;

interface Values {
  displayName: string;
  baseUrls: string;
  upstreamNetworks: string;
}

const FIELDS = {
  "/displayName": "displayName",
  "/baseUrls": "baseUrls",
  "/upstreamNetworks": "upstreamNetworks",
} as const;

const lines = (value: string): string[] => value.split(/\s+/).filter((line) => line !== "");

const valuesOf = (read: Gateway): Values => ({
  displayName: read.displayName ?? "",
  baseUrls: read.baseUrls.join("\n"),
  upstreamNetworks: read.upstreamNetworks.join("\n"),
});

export function GatewaySettings({ gateway }: { gateway: Gateway }) {
  const denied = useDenied("gateways:write");
  const [base, follow, reload] = useBase(gateway);
  const form = useForm<Values>({ values: valuesOf(base) });
  const { errors, isDirty } = form.formState;
  follow(isDirty);
  const saving = useReplace<Gateway, GatewayChange>({
    queryKey: gatewayQuery(gateway.name).queryKey,
    replace: replaceGateway,
    load: () => loadGateway(gateway.name),
    onError: (error) => placeProblem<Values>(error, FIELDS, form.setError),
    onSaved: (saved) => {
      form.reset(valuesOf(saved));
    },
  });
  const reason =
    denied ?? (saving.mutation.isPending ? messages.working : isDirty ? undefined : messages.endpoint.unchanged);
  return (
    <form
      className="form"
      noValidate
      onSubmit={(event) => {
        void form.handleSubmit((values) => {
          saving.mutation.mutate({
            read: base,
            change: {
              displayName: values.displayName,
              baseUrls: lines(values.baseUrls),
              upstreamNetworks: lines(values.upstreamNetworks),
            },
          });
        })(event);
      }}
    >
      <TextField
        label={messages.endpoint.displayName}
        error={errors.displayName?.message}
        {...form.register("displayName")}
      />
      <TextArea
        label={m.baseUrls}
        hint={m.onePerLine}
        error={errors.baseUrls?.message}
        rows={2}
        {...form.register("baseUrls")}
      />
      <TextArea
        label={m.networks}
        hint={`${m.networksHint} ${m.onePerLine}`}
        error={errors.upstreamNetworks?.message}
        rows={3}
        {...form.register("upstreamNetworks")}
      />
      <SaveOutcome
        saving={saving}
        onReload={() => {
          reload();
          form.reset(valuesOf(gateway));
        }}
      />
      <div className="form-foot">
        <Button variant="primary" type="submit" reason={reason}>
          {messages.endpoint.save}
        </Button>
      </div>
    </form>
  );
}
