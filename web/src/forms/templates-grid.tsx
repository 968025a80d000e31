/** The vendors to choose from, as cards. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { templatesQuery } from "../api/templates";
import { messages } from "../messages";
import { paths } from "../paths";
import { Loaded } from "../ui/loaded";
import { Mark } from "../ui/mark";

export function TemplatesGrid() {
  const templates = useQuery(templatesQuery);
  return (
    <Loaded query={templates} skeleton={<span className="skeleton skeleton-block" />}>
      {(all) => (
        <ul className="template-grid">
          {all.map((template) => (
            <li key={template.name}>
              <Link to={paths.newProvider} search={{ template: template.name }} className="template-card">
                <Mark name={template.displayName} />
                <span>
                  <strong>{template.displayName}</strong>
                  <span className="mono">{hostOf(template.defaultUpstreamUrl)}</span>
                </span>
              </Link>
            </li>
          ))}
        </ul>
      )}
    </Loaded>
  );
}

function hostOf(url: string | null | undefined): string {
  if (!url) return messages.providers.ownUrl;
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}
