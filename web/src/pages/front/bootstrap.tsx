/** Creating the one first owner with the token that the control plane printed. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useForm } from "react-hook-form";
import { placeProblem } from "../../forms/problems";
import { bootstrapQuery, claim, sessionQuery } from "../../api/session";
import type { FirstOwner } from "../../api/session";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Button } from "../../ui/button";
import { TextField } from "../../ui/field";
import { Notice } from "../../ui/notice";
import { ProblemPanel } from "../../ui/problem-panel";
import { takeToken } from "./fragment";
import { Front } from "./front";

const m = messages.bootstrap;

const FIELDS = {
  "/token": "token",
  "/email": "email",
  "/password": "password",
  "/displayName": "displayName",
} as const;

export function Bootstrap() {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const bootstrap = useQuery(bootstrapQuery);
  const [token] = useState(takeToken);
  const form = useForm<FirstOwner>({
    defaultValues: { token: token ?? "", email: "", password: "", displayName: "" },
  });
  const { errors } = form.formState;
  const [placed, setPlaced] = useState(false);
  const claiming = useMutation({
    gcTime: 0,
    mutationFn: claim,
    onSuccess: (session) => {
      queries.setQueryData(sessionQuery.queryKey, session);
      void navigate({ to: paths.home });
    },
    onError: (error) => {
      setPlaced(placeProblem<FirstOwner>(error, FIELDS, form.setError));
    },
  });
  if (bootstrap.data?.needed === false && !claiming.isSuccess) {
    return (
      <Front title={m.title} lead={m.done}>
        <Link to={paths.signIn} className="button button-primary">
          {m.toSignIn}
        </Link>
      </Front>
    );
  }
  const required = { required: m.required };
  return (
    <Front title={m.title} lead={m.lead}>
      {bootstrap.error !== null && <ProblemPanel error={bootstrap.error} onRetry={() => void bootstrap.refetch()} />}
      <form
        className="stack"
        noValidate
        onSubmit={(event) => {
          void form.handleSubmit((values) => {
            claiming.mutate(values);
          })(event);
        }}
      >
        <TextField
          label={m.token}
          hint={m.tokenHint}
          type="password"
          error={errors.token?.message}
          {...form.register("token", { ...required, setValueAs: (value: string) => value.trim() })}
        />
        <TextField
          label={m.name}
          autoComplete="name"
          error={errors.displayName?.message}
          {...form.register("displayName")}
        />
        <TextField
          label={m.email}
          type="email"
          autoComplete="username"
          error={errors.email?.message}
          {...form.register("email", required)}
        />
        <TextField
          label={m.password}
          hint={m.passwordHint}
          type="password"
          autoComplete="new-password"
          error={errors.password?.message}
          {...form.register("password", required)}
        />
        {claiming.isError && !placed && <ProblemPanel error={claiming.error} />}
        <Button variant="primary" type="submit" reason={claiming.isPending ? messages.working : undefined}>
          {m.submit}
        </Button>
      </form>
      {claiming.isSuccess && <Notice tone="success" live />}
    </Front>
  );
}
