/** The frame of a page: where one is, what this is, what can be done. */
import type { ReactNode } from "react";
import { useEffect } from "react";
import { messages } from "../messages";

interface PageProps {
  title: string;
  /** What stands beside the title: badges. */
  beside?: ReactNode;
  crumb?: ReactNode;
  lead?: ReactNode;
  actions?: ReactNode;
  narrow?: boolean;
  children: ReactNode;
}

export function Page({ title, beside, crumb, lead, actions, narrow, children }: PageProps) {
  useEffect(() => {
    document.title = messages.documentTitle(title);
  }, [title]);
  return (
    <div className={`page${narrow ? " page-narrow" : ""}`}>
      <header className="page-head">
        <div>
          {crumb !== undefined && <nav className="crumb">{crumb}</nav>}
          <div className="row">
            <h1>{title}</h1>
            {beside}
          </div>
          {lead !== undefined && <p>{lead}</p>}
        </div>
        {actions !== undefined && <div className="row">{actions}</div>}
      </header>
      {children}
    </div>
  );
}
