/** The one moment a key can be read: it is copied, downloaded or acknowledged before it goes. */
import { useQuery } from "@tanstack/react-query";
import { Download } from "lucide-react";
import { useState } from "react";
import { endpointsQuery } from "../api/endpoints";
import type { Endpoint, IssuedKey } from "../api/types";
import { messages } from "../messages";
import { envFile } from "../snippets";
import { Button } from "../ui/button";
import { Copyable } from "../ui/copy";
import { Dialog } from "../ui/dialog";
import { Checkbox, SelectField } from "../ui/field";
import { Notice } from "../ui/notice";
import { SnippetPanel, keyHeaders, useVoice } from "./snippet-panel";

const m = messages.keys;

function save(name: string, contents: string): void {
  const address = URL.createObjectURL(new Blob([contents], { type: "text/plain" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  URL.revokeObjectURL(address);
}

function firstOf(issued: IssuedKey, endpoints: readonly Endpoint[], chosen: string | undefined): Endpoint | undefined {
  const mine = endpoints.filter((each) => issued.endpoints.includes(each.name));
  return mine.find((each) => each.name === chosen) ?? mine.find((each) => each.invokeUrls.length > 0) ?? mine[0];
}

export function OnceDialog({ issued, onClose }: { issued: IssuedKey; onClose: () => void }) {
  const endpoints = useQuery(endpointsQuery).data ?? [];
  const [chosen, setChosen] = useState<string>();
  const [taken, setTaken] = useState(false);
  const [acknowledged, setAcknowledged] = useState(false);
  const endpoint = firstOf(issued, endpoints, chosen);
  const voice = useVoice(endpoint);
  const invoke = endpoint?.invokeUrls[0];
  const safe = taken || acknowledged;
  const take = () => {
    setTaken(true);
  };
  const download = () => {
    const contents =
      endpoint === undefined || voice === undefined || invoke === undefined
        ? `LOCKGATE_API_KEY=${issued.key}\n`
        : envFile(voice.template, voice.dialect, {
            invokeUrl: invoke.url,
            apiKey: issued.key,
            model: voice.model,
            streaming: false,
            keyHeaders: keyHeaders(endpoint),
          });
    save(`${issued.name}.env`, contents);
    take();
  };
  return (
    <Dialog open shape="wide" title={m.onceTitle} description={m.onceText} dismissable={safe} onClose={onClose}>
      <Copyable value={issued.key} label={m.key} onCopied={take} />
      {issued.endpoints.length > 1 && (
        <SelectField
          label={m.endpointFor}
          value={endpoint?.name ?? ""}
          onChange={(event) => {
            setChosen(event.target.value);
          }}
          options={issued.endpoints.map((name) => ({ value: name, label: name }))}
        />
      )}
      {endpoint !== undefined && endpoint.invokeUrls.length > 0 ? (
        <SnippetPanel endpoint={endpoint} apiKey={issued.key} onCopied={take} />
      ) : (
        <Notice>
          <p>{m.notDeployed}</p>
        </Notice>
      )}
      <Checkbox
        label={m.acknowledge}
        checked={acknowledged}
        onChange={(event) => {
          setAcknowledged(event.target.checked);
        }}
      />
      <div className="dialog-foot">
        <Button onClick={download}>
          <Download size={15} aria-hidden="true" />
          {m.download}
        </Button>
        <Button variant="primary" reason={safe ? undefined : m.doneReason} onClick={onClose}>
          {m.done}
        </Button>
      </div>
    </Dialog>
  );
}
