/** The frame of the pages before one is signed in. */
import type { ReactNode } from "react";
import { useEffect } from "react";
import { messages } from "../../messages";
import { Logo } from "../../ui/logo";

export function Front({ title, lead, children }: { title: string; lead: string; children: ReactNode }) {
  useEffect(() => {
    document.title = messages.documentTitle(title);
  }, [title]);
  return (
    <main className="front">
      <div className="front-card">
        <div className="front-brand">
          <Logo size={44} />
          <h1>{title}</h1>
          <p>{lead}</p>
        </div>
        <div className="card card-body">{children}</div>
      </div>
    </main>
  );
}
