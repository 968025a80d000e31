/** Making an API key: for whom, for which endpoints, until when. */
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useForm } from "react-hook-form";
import { apiKeysQuery, createApiKey } from "../api/api-keys";
import { endpointsQuery } from "../api/endpoints";
import type { Endpoint, IssuedKey } from "../api/types";
import { messages } from "../messages";
import { Button } from "../ui/button";
import { Dialog } from "../ui/dialog";
import { SelectField, TextField } from "../ui/field";
import { Loaded, PageSkeleton } from "../ui/loaded";
import { Notice } from "../ui/notice";
import { ProblemPanel } from "../ui/problem-panel";
import { freeName, isName } from "./names";
import { OnceDialog } from "./once-dialog";
import { placeProblem } from "./problems";

const m = messages.keys;

interface KeyDialogProps {
  open: boolean;
  onClose: () => void;
  /** The endpoint it is for, when it is made on that endpoint's page. */
  endpoint?: string;
}

export function KeyDialog({ open, onClose, endpoint }: KeyDialogProps) {
  const [issued, setIssued] = useState<IssuedKey>();
  const endpoints = useQuery({ ...endpointsQuery, enabled: open });
  const keys = useInfiniteQuery({ ...apiKeysQuery(), enabled: open });
  const close = () => {
    setIssued(undefined);
    onClose();
  };
  if (issued !== undefined) return <OnceDialog issued={issued} onClose={close} />;
  return (
    <Dialog open={open} onClose={close} title={m.newTitle}>
      <Loaded query={endpoints} skeleton={<PageSkeleton />}>
        {(all) =>
          all.length === 0 ? (
            <Notice>
              <p>{m.noEndpoints}</p>
            </Notice>
          ) : keys.isPending ? (
            <PageSkeleton />
          ) : (
            <KeyForm
              endpoints={all}
              chosen={endpoint}
              taken={new Set(keys.data?.pages.flatMap((page) => page.data.map((key) => key.name)))}
              onCancel={close}
              onIssued={setIssued}
            />
          )
        }
      </Loaded>
    </Dialog>
  );
}

interface KeyFormProps {
  endpoints: readonly Endpoint[];
  chosen: string | undefined;
  taken: ReadonlySet<string>;
  onCancel: () => void;
  onIssued: (issued: IssuedKey) => void;
}

interface Values {
  name: string;
  endpoints: string[];
  expiresIn: string;
}

function KeyForm({ endpoints, chosen, taken, onCancel, onIssued }: KeyFormProps) {
  const queries = useQueryClient();
  const only = endpoints.length === 1 ? endpoints[0]?.name : undefined;
  const first = chosen ?? only;
  const form = useForm<Values>({
    defaultValues: {
      name: freeName(first === undefined ? "key" : `${first}-key`.slice(0, 60), taken),
      endpoints: first === undefined ? [] : [first],
      expiresIn: "90d",
    },
  });
  const { errors } = form.formState;
  const create = useMutation({
    // The answer holds the key: it lives in the dialog and nowhere else.
    gcTime: 0,
    mutationFn: ({ name, endpoints: opens, expiresIn }: Values) =>
      createApiKey({ name, endpoints: opens, ...(expiresIn === "" ? {} : { expiresIn }) }),
    onSuccess: (issued) => {
      void queries.invalidateQueries({ queryKey: ["api-keys"] });
      onIssued(issued);
    },
    onError: (error) => {
      placeProblem<Values>(
        error,
        { "/name": "name", "/endpoints": "endpoints", "/expiresIn": "expiresIn" },
        form.setError,
      );
    },
  });
  return (
    <form
      className="form"
      noValidate
      onSubmit={(event) => {
        void form.handleSubmit((values) => {
          create.mutate(values);
        })(event);
      }}
    >
      <TextField
        label={m.name}
        autoFocus
        hint={m.nameHint}
        error={errors.name?.message}
        {...form.register("name", { validate: (value) => isName(value) || messages.endpoint.nameInvalid })}
      />
      <fieldset className="stack-tight">
        <legend className="field-label">{m.endpoints}</legend>
        {endpoints.map((endpoint) => (
          <label className="choice" key={endpoint.id}>
            <input
              type="checkbox"
              value={endpoint.name}
              {...form.register("endpoints", { validate: (value) => value.length > 0 || m.endpointsRequired })}
            />
            <span>
              {endpoint.name} <span className="muted mono">{endpoint.context}</span>
            </span>
          </label>
        ))}
        {errors.endpoints?.message !== undefined && (
          <p className="field-error" role="alert">
            {errors.endpoints.message}
          </p>
        )}
      </fieldset>
      <SelectField
        label={m.expires}
        error={errors.expiresIn?.message}
        options={Object.entries(m.expiries).map(([value, label]) => ({ value, label }))}
        {...form.register("expiresIn")}
      />
      {create.error !== null && <ProblemPanel error={create.error} />}
      <div className="dialog-foot">
        <Button onClick={onCancel}>{messages.cancel}</Button>
        <Button variant="primary" type="submit" reason={create.isPending ? messages.working : undefined}>
          {m.create}
        </Button>
      </div>
    </form>
  );
}
