/** Giving one app or agent an endpoint of its own over a provider. */
import { useForm } from "react-hook-form";
import { createProxy } from "../api/proxies";
import type { Provider } from "../api/types";
import { messages } from "../messages";
import { SelectField, TextField } from "../ui/field";
import { CreateFoot, useCreateAndDeploy } from "./create-and-deploy";
import type { Created } from "./create-and-deploy";
import { freeName, isContext, isName } from "./names";
import { placeProblem } from "./problems";

const m = messages.proxies;
const e = messages.endpoint;

interface Values {
  name: string;
  context: string;
  provider: string;
}

const FIELDS = { "/name": "name", "/context": "context", "/provider": "provider" } as const;

interface ProxyFormProps {
  providers: readonly Provider[];
  /** The provider it was begun from, if any. */
  provider: string | undefined;
  taken: ReadonlySet<string>;
  onDone: (created: Created) => void;
}

export function ProxyForm({ providers, provider, taken, onDone }: ProxyFormProps) {
  const name = freeName("assistant", taken);
  const form = useForm<Values>({
    defaultValues: { name, context: `/${name}`, provider: provider ?? providers[0]?.name ?? "" },
  });
  const { errors } = form.formState;
  const flow = useCreateAndDeploy<Values>({
    create: async (values) => (await createProxy(values)).name,
    onDone,
    onRefused: (error) => placeProblem<Values>(error, FIELDS, form.setError),
  });
  const submit = (andDeploy: boolean) => {
    void form.handleSubmit((values) => {
      flow.creation.mutate({ values, andDeploy });
    })();
  };
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
      <SelectField
        label={m.provider}
        hint={m.providerHint}
        error={errors.provider?.message}
        options={providers.map((each) => ({ value: each.name, label: each.displayName || each.name }))}
        {...form.register("provider")}
      />
      <TextField
        label={e.context}
        hint={e.contextHint}
        error={errors.context?.message}
        {...form.register("context", { validate: (value) => isContext(value) || e.contextInvalid })}
      />
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
