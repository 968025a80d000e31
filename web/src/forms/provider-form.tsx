/** Connecting a vendor account: one field to fill, the rest is prefilled. */
import { useForm } from "react-hook-form";
import { createProvider } from "../api/providers";
import type { Template } from "../api/types";
import { messages } from "../messages";
import { TextField } from "../ui/field";
import { CreateFoot, useCreateAndDeploy } from "./create-and-deploy";
import type { Created } from "./create-and-deploy";
import { freeName, isContext, isName, isUrl } from "./names";
import { placeProblem } from "./problems";

const m = messages.providers;
const e = messages.endpoint;

interface Values {
  name: string;
  context: string;
  url: string;
  credential: string;
}

const FIELDS = {
  "/name": "name",
  "/context": "context",
  "/upstream/url": "url",
  "/upstream/credential": "credential",
} as const;

interface ProviderFormProps {
  template: Template;
  /** The names that endpoints have already. */
  taken: ReadonlySet<string>;
  onDone: (created: Created) => void;
}

export function ProviderForm({ template, taken, onDone }: ProviderFormProps) {
  const name = freeName(template.name, taken);
  const form = useForm<Values>({
    defaultValues: { name, context: `/${name}`, url: template.defaultUpstreamUrl ?? "", credential: "" },
  });
  const { errors } = form.formState;
  const flow = useCreateAndDeploy<Values>({
    create: async (values) => {
      const made = await createProvider({
        name: values.name,
        template: template.name,
        context: values.context,
        upstream: { url: values.url, credential: { value: values.credential } },
      });
      return made.name;
    },
    onDone,
    onRefused: (error) => placeProblem<Values>(error, FIELDS, form.setError),
  });
  const submit = (andDeploy: boolean) => {
    void form.handleSubmit((values) => {
      flow.creation.mutate({ values, andDeploy });
    })();
  };
  const url = (
    <TextField
      label={m.url}
      hint={template.defaultUpstreamUrl ? m.urlHint : m.urlRequired}
      error={errors.url?.message}
      inputMode="url"
      placeholder={template.upstreamUrlExample}
      {...form.register("url", {
        setValueAs: (value: string) => value.trim(),
        validate: (value) => isUrl(value) || m.urlInvalid,
      })}
    />
  );
  return (
    <form
      className="form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        submit(true);
      }}
    >
      <TextField
        label={e.name}
        hint={e.nameHint}
        error={errors.name?.message}
        {...form.register("name", {
          validate: (value) => isName(value) || e.nameInvalid,
          onChange: (event: { target: { value: string } }) => {
            if (!form.getFieldState("context").isDirty)
              form.resetField("context", { defaultValue: `/${event.target.value}` });
          },
        })}
      />
      {!template.defaultUpstreamUrl && url}
      <TextField
        label={m.credential}
        hint={m.credentialHint}
        error={errors.credential?.message}
        type="password"
        autoFocus
        {...form.register("credential", {
          setValueAs: (value: string) => value.trim(),
          validate: (value) => value !== "" || m.credentialRequired,
        })}
      />
      <details className="more" open={errors.context !== undefined || errors.url !== undefined || undefined}>
        <summary>{e.more}</summary>
        <div className="form">
          {template.defaultUpstreamUrl && url}
          <TextField
            label={e.context}
            hint={e.contextHint}
            error={errors.context?.message}
            {...form.register("context", { validate: (value) => isContext(value) || e.contextInvalid })}
          />
        </div>
      </details>
      <CreateFoot
        flow={flow}
        submitOnly={() => {
          submit(false);
        }}
        onOpen={(saved) => {
          onDone({ name: saved });
        }}
      />
    </form>
  );
}
