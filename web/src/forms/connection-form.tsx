/** Changing how an endpoint is reached and what it reaches. */
import { useQuery } from "@tanstack/react-query";
import { useForm } from "react-hook-form";
import type { UseFormRegister } from "react-hook-form";
import { endpointsQuery } from "../api/endpoints";
import { isShared, providersOf } from "../api/proxies";
import type { Endpoint } from "../api/types";
import { messages } from "../messages";
import { Button } from "../ui/button";
import { SelectField, TextField } from "../ui/field";
import { changeOf, valuesOf } from "./connection";
import type { ConnectionValues } from "./connection";
import { useReplaceEndpoint } from "./endpoint-change";
import { COMMON_FIELDS, NamingFields, TimeoutFields, useBase } from "./endpoint-fields";
import type { CommonValues } from "./endpoint-fields";
import { isUrl, sameHost } from "./names";
import { placeProblem } from "./problems";
import { SaveOutcome } from "./replace";
import { useDenied } from "./session";

const m = messages.providers;
const e = messages.endpoint;

const FIELDS = {
  ...COMMON_FIELDS,
  "/upstream/url": "url",
  "/upstream/credential": "credential",
  "/provider": "provider",
} as const;

export function ConnectionForm({ endpoint }: { endpoint: Endpoint }) {
  const denied = useDenied("endpoints:write");
  const [base, follow, reload] = useBase(endpoint);
  const form = useForm<ConnectionValues>({ values: valuesOf(base) });
  const { errors, isDirty } = form.formState;
  follow(isDirty);
  const saving = useReplaceEndpoint(endpoint, {
    onError: (error) => placeProblem<ConnectionValues>(error, FIELDS, form.setError),
    onSaved: (saved) => {
      form.reset(valuesOf(saved));
    },
  });
  const register = form.register as unknown as UseFormRegister<CommonValues>;
  const reason = denied ?? (saving.mutation.isPending ? messages.working : isDirty ? undefined : e.unchanged);
  return (
    <form
      className="form"
      noValidate
      onSubmit={(event) => {
        void form.handleSubmit((values) => {
          saving.mutation.mutate({ read: base, change: changeOf(base, values) });
        })(event);
      }}
    >
      {base.kind === "provider" ? (
        <>
          <TextField
            label={m.url}
            hint={m.urlHint}
            error={errors.url?.message}
            inputMode="url"
            {...form.register("url", { validate: (value) => isUrl(value) || m.urlInvalid })}
          />
          <TextField
            label={m.credential}
            hint={base.upstream.credential ? m.credentialKeep(base.upstream.credential.last4) : m.credentialHint}
            error={errors.credential?.message}
            type="password"
            {...form.register("credential", {
              validate: (value, { url }) => value !== "" || sameHost(url, base.upstream.url) || m.credentialHost,
            })}
          />
        </>
      ) : isShared(base) ? (
        <p className="field-hint">{messages.proxies.shared(providersOf(base))}</p>
      ) : (
        <ProviderChoice register={form.register} error={errors.provider?.message} />
      )}
      <NamingFields register={register} errors={errors} />
      <TimeoutFields register={register} errors={errors} />
      <SaveOutcome
        saving={saving}
        note={e.savedPending}
        onReload={() => {
          reload();
          form.reset(valuesOf(endpoint));
        }}
      />
      <div className="form-foot">
        <Button variant="primary" type="submit" reason={reason}>
          {e.save}
        </Button>
      </div>
    </form>
  );
}

function ProviderChoice({
  register,
  error,
}: {
  register: UseFormRegister<ConnectionValues>;
  error: string | undefined;
}) {
  const all = useQuery(endpointsQuery).data ?? [];
  return (
    <SelectField
      label={messages.proxies.provider}
      hint={messages.proxies.providerHint}
      error={error}
      options={all
        .filter((each) => each.kind === "provider")
        .map((each) => ({ value: each.name, label: each.displayName || each.name }))}
      {...register("provider")}
    />
  );
}
