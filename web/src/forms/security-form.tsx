/** Where an endpoint looks for the API key, in order. */
import { ArrowUp, Plus, Trash2 } from "lucide-react";
import { useFieldArray, useForm } from "react-hook-form";
import type { Endpoint, KeyLocation } from "../api/types";
import { messages } from "../messages";
import { Button } from "../ui/button";
import { SelectField, TextField } from "../ui/field";
import { useReplaceEndpoint } from "./endpoint-change";
import { useBase } from "./endpoint-fields";
import { SaveOutcome } from "./replace";
import { useDenied } from "./session";

const m = messages.security;
const e = messages.endpoint;

interface Values {
  locations: { in: "header" | "query"; name: string; prefix: string }[];
}

const valuesOf = (read: Endpoint): Values => ({
  locations: read.security.apiKey.locations.map((each) => ({
    in: each.in,
    name: each.name,
    prefix: each.prefix ?? "",
  })),
});

const STRICT: Values["locations"] = [{ in: "header", name: "X-API-Key", prefix: "" }];

export function SecurityForm({ endpoint }: { endpoint: Endpoint }) {
  const denied = useDenied("endpoints:write");
  const [base, follow, reload] = useBase(endpoint);
  const form = useForm<Values>({ values: valuesOf(base) });
  const { errors, isDirty } = form.formState;
  follow(isDirty);
  const list = useFieldArray({ control: form.control, name: "locations" });
  const saving = useReplaceEndpoint(endpoint, {
    onSaved: (saved) => {
      form.reset(valuesOf(saved));
    },
  });
  const reason = denied ?? (saving.mutation.isPending ? messages.working : isDirty ? undefined : e.unchanged);
  return (
    <form
      className="form"
      noValidate
      onSubmit={(event) => {
        void form.handleSubmit(({ locations }) => {
          const apiKey: { locations: KeyLocation[] } = { locations };
          saving.mutation.mutate({ read: base, change: { security: { apiKey } } });
        })(event);
      }}
    >
      <div className="stack-tight">
        <h2>{m.title}</h2>
        <p className="muted">{m.lead}</p>
      </div>
      <ol className="locations">
        {list.fields.map((field, index) => (
          <li key={field.id} className="location">
            <SelectField
              label={m.in}
              options={[
                { value: "header", label: m.inHeader },
                { value: "query", label: m.inQuery },
              ]}
              {...form.register(`locations.${index}.in`)}
            />
            <TextField
              label={m.name}
              error={errors.locations?.[index]?.name?.message}
              {...form.register(`locations.${index}.name`, {
                validate: (value) => value.trim() !== "" || m.nameRequired,
              })}
            />
            <TextField label={m.prefix} {...form.register(`locations.${index}.prefix`)} />
            <div className="row">
              <Button
                iconOnly
                variant="quiet"
                aria-label={m.up(field.name)}
                reason={index === 0 ? m.first : undefined}
                onClick={() => {
                  list.move(index, index - 1);
                }}
              >
                <ArrowUp size={16} aria-hidden="true" />
              </Button>
              <Button
                iconOnly
                variant="quiet"
                aria-label={m.remove(field.name)}
                reason={list.fields.length === 1 ? m.last : undefined}
                onClick={() => {
                  list.remove(index);
                }}
              >
                <Trash2 size={16} aria-hidden="true" />
              </Button>
            </div>
          </li>
        ))}
      </ol>
      <div className="row">
        <Button
          size="small"
          onClick={() => {
            list.append({ in: "header", name: "", prefix: "" });
          }}
        >
          <Plus size={15} aria-hidden="true" />
          {m.add}
        </Button>
        <Button
          size="small"
          onClick={() => {
            list.replace(STRICT);
          }}
        >
          {m.strict}
        </Button>
        <span className="muted small">{m.strictHint}</span>
      </div>
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
