/** The frame around every page of a signed-in member. */
import { useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useRouterState } from "@tanstack/react-router";
import { Menu as MenuIcon } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useLiveUpdates } from "../../api/live";
import { useSession } from "../../forms/session";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Button } from "../../ui/button";
import { Logo } from "../../ui/logo";
import { Sidebar } from "./sidebar";

const m = messages.nav;

function skipTo(main: HTMLElement | null) {
  main?.focus();
}

export function Shell() {
  useLiveUpdates(useQueryClient(), useSession()?.permissions ?? []);
  const path = useRouterState({ select: (state) => state.location.pathname });
  const [openAt, setOpenAt] = useState<string>();
  const main = useRef<HTMLElement>(null);
  const open = openAt === path;

  // After a step to another page the reader starts at its beginning, not at the link they came by.
  const before = useRef(path);
  useEffect(() => {
    if (before.current !== path) main.current?.focus({ preventScroll: true });
    before.current = path;
  }, [path]);
  useEffect(() => {
    if (!open) return undefined;
    const close = (event: KeyboardEvent) => {
      if (event.key === "Escape") setOpenAt(undefined);
    };
    document.addEventListener("keydown", close);
    return () => {
      document.removeEventListener("keydown", close);
    };
  }, [open]);

  return (
    <div className="shell">
      <button
        type="button"
        className="button skip"
        onClick={() => {
          skipTo(main.current);
        }}
      >
        {m.skip}
      </button>
      <header className="topbar">
        <Link to={paths.home} className="brand">
          <Logo size={24} />
          {messages.product}
        </Link>
        <Button
          variant="quiet"
          iconOnly
          aria-label={m.open}
          aria-expanded={open}
          onClick={() => {
            setOpenAt(open ? undefined : path);
          }}
        >
          <MenuIcon size={18} aria-hidden="true" />
        </Button>
      </header>
      {open && (
        <div
          className="dialog-scrim"
          onClick={() => {
            setOpenAt(undefined);
          }}
        />
      )}
      <Sidebar open={open} />
      <main className="main" tabIndex={-1} ref={main}>
        <Outlet />
      </main>
    </div>
  );
}
