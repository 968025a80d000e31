/** What can be done with an API key after it was made: rotate, disable, revoke, delete. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Ban, Pause, Play, RefreshCw, Trash2 } from "lucide-react";
import { useState } from "react";
import { disableApiKey, removeApiKey, revokeApiKey, rotateApiKey } from "../api/api-keys";
import type { ApiKey, IssuedKey } from "../api/types";
import { messages } from "../messages";
import { Button } from "../ui/button";
import { Confirm, Dialog } from "../ui/dialog";
import { SelectField } from "../ui/field";
import type { MenuItem } from "../ui/menu";
import { ProblemPanel } from "../ui/problem-panel";
import { useRemoval } from "./removal";
import { OnceDialog } from "./once-dialog";
import { useDenied } from "./session";

const m = messages.keys;

interface Asked {
  what: "rotate" | "revoke" | "remove";
  key: ApiKey;
}

/** The menu of a key, and the dialogs its items open. */
export function useKeyActions(onRemoved?: () => unknown) {
  const queries = useQueryClient();
  const denied = useDenied("keys:write");
  const [asked, setAsked] = useState<Asked>();
  const [issued, setIssued] = useState<IssuedKey>();
  const [grace, setGrace] = useState("24h");
  const refresh = () => {
    setAsked(undefined);
    void queries.invalidateQueries({ queryKey: ["api-keys"] });
  };
  const toggle = useMutation({
    mutationFn: (key: ApiKey) => disableApiKey(key.id, key.status !== "disabled"),
    onSuccess: refresh,
  });
  const rotation = useMutation({
    gcTime: 0,
    mutationFn: (key: ApiKey) => rotateApiKey(key.id, grace),
    onSuccess: (made) => {
      refresh();
      setIssued(made);
    },
  });
  const revocation = useMutation({ mutationFn: (key: ApiKey) => revokeApiKey(key.id), onSuccess: refresh });
  const removal = useRemoval(["api-keys"], removeApiKey, async () => {
    await onRemoved?.();
    setAsked(undefined);
  });
  const ending = asked?.what === "remove" ? removal : revocation;

  const ask = (what: Asked["what"], key: ApiKey) => () => {
    rotation.reset();
    revocation.reset();
    removal.reset();
    setAsked({ what, key });
  };
  const items = (key: ApiKey): MenuItem[] => {
    if (denied !== undefined) return [];
    const alive = key.status === "active" || key.status === "disabled";
    const remove = {
      id: "remove",
      label: m.remove,
      icon: <Trash2 size={15} />,
      danger: true,
      onSelect: ask("remove", key),
    };
    if (!alive) return [remove];
    const paused = key.status === "disabled";
    return [
      { id: "rotate", label: m.rotate, icon: <RefreshCw size={15} />, onSelect: ask("rotate", key) },
      {
        id: "disable",
        label: paused ? m.enable : m.disable,
        icon: paused ? <Play size={15} /> : <Pause size={15} />,
        onSelect: () => {
          toggle.mutate(key);
        },
      },
      { id: "revoke", label: m.revoke, icon: <Ban size={15} />, danger: true, onSelect: ask("revoke", key) },
      remove,
    ];
  };
  const close = () => {
    setAsked(undefined);
  };
  const dialogs = (
    <>
      {toggle.error !== null && <ProblemPanel error={toggle.error} />}
      {asked?.what === "rotate" && (
        <Dialog open onClose={close} title={m.rotateTitle(asked.key.name)} description={m.rotateText}>
          <SelectField
            label={m.grace}
            value={grace}
            onChange={(event) => {
              setGrace(event.target.value);
            }}
            options={Object.entries(m.graces).map(([value, label]) => ({ value, label }))}
          />
          {rotation.error !== null && <ProblemPanel error={rotation.error} />}
          <div className="dialog-foot">
            <Button onClick={close}>{messages.cancel}</Button>
            <Button
              variant="primary"
              reason={rotation.isPending ? messages.working : undefined}
              onClick={() => {
                rotation.mutate(asked.key);
              }}
            >
              {m.rotate}
            </Button>
          </div>
        </Dialog>
      )}
      {(asked?.what === "revoke" || asked?.what === "remove") && (
        <Confirm
          open
          onClose={close}
          title={asked.what === "revoke" ? m.revokeTitle(asked.key.name) : m.removeTitle(asked.key.name)}
          description={asked.what === "revoke" ? m.revokeText : m.removeText}
          action={asked.what === "revoke" ? m.revoke : m.remove}
          busy={ending.isPending}
          onConfirm={() => {
            ending.mutate(asked.key);
          }}
        >
          {ending.error !== null && <ProblemPanel error={ending.error} />}
        </Confirm>
      )}
      {issued !== undefined && (
        <OnceDialog
          issued={issued}
          onClose={() => {
            setIssued(undefined);
          }}
        />
      )}
    </>
  );
  return { items, dialogs };
}
