/** The fields that providers and proxies have in common, and how a form of them is kept in step with the server. */
import { useState } from "react";
import type { FieldErrors, FieldValues, UseFormRegister } from "react-hook-form";
import type { Endpoint } from "../api/types";
import { messages } from "../messages";
import { TextArea, TextField } from "../ui/field";
import { isContext, isDuration } from "./names";

const m = messages.endpoint;

export interface CommonValues extends FieldValues {
  displayName: string;
  description: string;
  context: string;
  connect: string;
  firstByte: string;
  idle: string;
  /** Empty: the node's own. */
  total: string;
}

/** Pointers of the common members and the fields they belong to. */
export const COMMON_FIELDS = {
  "/displayName": "displayName",
  "/description": "description",
  "/context": "context",
  "/timeouts/connect": "connect",
  "/timeouts/firstByte": "firstByte",
  "/timeouts/idle": "idle",
  "/timeouts/total": "total",
} as const;

export const commonValues = (read: Endpoint): CommonValues => ({
  displayName: read.displayName ?? "",
  description: read.description ?? "",
  context: read.context,
  connect: read.timeouts.connect,
  firstByte: read.timeouts.firstByte,
  idle: read.timeouts.idle,
  total: read.timeouts.total ?? "",
});

export const commonChange = (values: CommonValues) => ({
  displayName: values.displayName,
  description: values.description,
  context: values.context,
  timeouts: {
    connect: values.connect,
    firstByte: values.firstByte,
    idle: values.idle,
    ...(values.total === "" ? {} : { total: values.total }),
  },
});

/**
 * What the form was filled from. It follows the server until something has been typed, and then stays, so that saving
 * over somebody else's change is noticed.
 */
export function useBase<R extends { revision: number }>(current: R): [R, (dirty: boolean) => void, () => void] {
  const [base, setBase] = useState(current);
  const follow = (dirty: boolean) => {
    if (!dirty && base.revision < current.revision) setBase(current);
  };
  const reload = () => {
    setBase(current);
  };
  return [base, follow, reload];
}

interface CommonFieldsProps {
  register: UseFormRegister<CommonValues>;
  errors: FieldErrors<CommonValues>;
}

export function NamingFields({ register, errors }: CommonFieldsProps) {
  return (
    <>
      <TextField label={m.displayName} error={errors.displayName?.message} {...register("displayName")} />
      <TextArea label={m.description} error={errors.description?.message} rows={2} {...register("description")} />
      <TextField
        label={m.context}
        hint={m.contextHint}
        error={errors.context?.message}
        {...register("context", { validate: (value) => isContext(value) || m.contextInvalid })}
      />
    </>
  );
}

export function TimeoutFields({ register, errors }: CommonFieldsProps) {
  const valid = { validate: (value: string) => isDuration(value) || m.durationInvalid };
  const optional = { validate: (value: string) => value === "" || isDuration(value) || m.durationInvalid };
  return (
    <fieldset className="stack-tight">
      <legend className="field-label">{m.timeouts}</legend>
      <div className="form-two">
        <TextField label={m.connect} error={errors.connect?.message} {...register("connect", valid)} />
        <TextField label={m.firstByte} error={errors.firstByte?.message} {...register("firstByte", valid)} />
        <TextField label={m.idle} error={errors.idle?.message} {...register("idle", valid)} />
        <TextField label={m.total} error={errors.total?.message} {...register("total", optional)} />
      </div>
      <p className="field-hint">{m.durationHint}</p>
    </fieldset>
  );
}
