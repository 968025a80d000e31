/** Signing in, by password or by the one-time link that the command line prints. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Navigate, getRouteApi, useRouter } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { useForm } from "react-hook-form";
import { bootstrapQuery, redeem, sessionQuery, signIn } from "../../api/session";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Button } from "../../ui/button";
import { TextField } from "../../ui/field";
import { Notice } from "../../ui/notice";
import { ProblemPanel } from "../../ui/problem-panel";
import { isOwnAddress, takeToken } from "./fragment";
import { Front } from "./front";

const m = messages.signIn;
const route = getRouteApi("/sign-in");

interface Values {
  email: string;
  password: string;
}

export function SignIn() {
  const { next } = route.useSearch();
  const router = useRouter();
  const queries = useQueryClient();
  const bootstrap = useQuery(bootstrapQuery);
  const [token] = useState(takeToken);
  const form = useForm<Values>({ defaultValues: { email: "", password: "" } });

  const enter = useMutation({
    mutationFn: (by: Values | string) => (typeof by === "string" ? redeem(by) : signIn(by.email, by.password)),
    onSuccess: (session) => {
      queries.setQueryData(sessionQuery.queryKey, session);
      router.history.replace(isOwnAddress(next) ? next : paths.home);
    },
  });
  const { mutate } = enter;
  useEffect(() => {
    if (token !== undefined) mutate(token);
  }, [token, mutate]);

  if (bootstrap.data?.needed === true && token === undefined) return <Navigate to={paths.bootstrap} replace />;
  const byLink = typeof enter.variables === "string";
  if (token !== undefined && (enter.isIdle || (enter.isPending && byLink) || (enter.isSuccess && byLink))) {
    return (
      <Front title={m.redeeming} lead={messages.tagline}>
        <span className="skeleton skeleton-block" role="status" aria-label={m.redeeming} />
      </Front>
    );
  }
  const { errors } = form.formState;
  const required = { required: m.missing };
  return (
    <Front title={m.title} lead={messages.tagline}>
      {byLink && enter.isError && (
        <Notice tone="warning" live>
          <p>{m.tokenFailed}</p>
        </Notice>
      )}
      <form
        className="stack"
        noValidate
        onSubmit={(event) => {
          void form.handleSubmit((values) => {
            enter.mutate(values);
          })(event);
        }}
      >
        <TextField
          label={m.email}
          type="email"
          autoComplete="username"
          error={errors.email?.message}
          {...form.register("email", required)}
        />
        <TextField
          label={m.password}
          type="password"
          autoComplete="current-password"
          error={errors.password?.message}
          {...form.register("password", required)}
        />
        {!byLink && enter.isError && <ProblemPanel error={enter.error} />}
        <Button variant="primary" type="submit" reason={enter.isPending ? messages.working : undefined}>
          {m.submit}
        </Button>
      </form>
    </Front>
  );
}
