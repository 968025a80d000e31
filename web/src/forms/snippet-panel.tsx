/** How to call one endpoint, in the languages of its vendor's SDKs. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { endpointsQuery, templateName } from "../api/endpoints";
import { templatesQuery } from "../api/templates";
import type { Endpoint, Template } from "../api/types";
import { messages } from "../messages";
import { KEY_PLACEHOLDER, snippetsOf } from "../snippets";
import type { Target } from "../snippets";
import { CodeBlock } from "../ui/code-block";
import { FilterSelect, Segments } from "../ui/field";
import { Tabs } from "../ui/tabs";

const m = messages.snippets;

/** What a vendor's SDK needs to know about an endpoint; undefined while it has no Invoke URL or no template. */
export function useVoice(
  endpoint: Endpoint | undefined,
): { template: string; dialect: string; model: string } | undefined {
  const endpoints = useQuery(endpointsQuery).data;
  const templates = useQuery(templatesQuery).data;
  if (endpoint === undefined || templates === undefined) return undefined;
  const name = templateName(endpoint, endpoints ?? []);
  const template: Template | undefined = templates.find((each) => each.name === name);
  if (template === undefined) return undefined;
  return { template: template.name, dialect: template.dialect, model: template.sampleModel ?? "<model>" };
}

/** The headers an endpoint reads keys from. */
export const keyHeaders = (endpoint: Endpoint): string[] =>
  endpoint.security.apiKey.locations
    .filter((location) => location.in === "header")
    .map((location) => location.name.toLowerCase());

interface SnippetPanelProps {
  endpoint: Endpoint;
  /** The key, in the one moment it is known. */
  apiKey?: string;
  onCopied?: () => void;
}

export function SnippetPanel({ endpoint, apiKey, onCopied }: SnippetPanelProps) {
  const voice = useVoice(endpoint);
  const [tab, setTab] = useState("curl");
  const [mode, setMode] = useState<"basic" | "streaming">("basic");
  const [gateway, setGateway] = useState<string>();
  const invoke = endpoint.invokeUrls.find((each) => each.gateway === gateway) ?? endpoint.invokeUrls[0];
  if (voice === undefined || invoke === undefined) return null;

  const target: Target = {
    invokeUrl: invoke.url,
    apiKey: apiKey ?? KEY_PLACEHOLDER,
    model: voice.model,
    streaming: mode === "streaming",
    keyHeaders: keyHeaders(endpoint),
  };
  const snippets = snippetsOf(voice.template, voice.dialect, target);
  const chosen = snippets.some((each) => each.id === tab) ? tab : "curl";
  return (
    <div className="stack">
      <div className="row-between">
        <Segments
          label={m.mode}
          value={mode}
          onChange={setMode}
          options={[
            { value: "basic", label: m.basic },
            { value: "streaming", label: m.streaming },
          ]}
        />
        {endpoint.invokeUrls.length > 1 && (
          <div className="filters">
            <FilterSelect
              label={m.gateway}
              value={invoke.gateway}
              onChange={(event) => {
                setGateway(event.target.value);
              }}
              options={endpoint.invokeUrls.map((each) => ({ value: each.gateway, label: each.gateway }))}
            />
          </div>
        )}
      </div>
      <Tabs
        label={m.label}
        value={chosen}
        onChange={setTab}
        tabs={snippets.map((snippet) => ({
          id: snippet.id,
          label: snippet.label,
          content: (
            <div className="stack-tight">
              <CodeBlock
                code={snippet.code}
                language={snippet.language}
                label={snippet.install === "" ? snippet.label : snippet.install}
                {...(onCopied ? { onCopied } : {})}
              />
              <p className="muted small">
                {snippet.id !== "env" && m.modelHint(target.model)} {apiKey === undefined && m.keyHint}
              </p>
            </div>
          ),
        }))}
      />
    </div>
  );
}
