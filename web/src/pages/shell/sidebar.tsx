/** Where one can go, who one is, whether what one sees is live. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { Activity, Boxes, ChartNoAxesColumn, House, KeyRound, LogOut, Network, Rocket, Waypoints } from "lucide-react";
import type { LucideIcon } from "lucide-react";
import { useState } from "react";
import { mayWatch, useStreamState } from "../../api/live";
import { sessionQuery, signOut } from "../../api/session";
import { useSession } from "../../forms/session";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Button } from "../../ui/button";
import { FilterSelect } from "../../ui/field";
import { Logo } from "../../ui/logo";
import { chooseTheme, storedTheme } from "../../ui/theme";
import type { Theme } from "../../ui/theme";

const m = messages.nav;

const groups = [
  {
    title: m.groups.build,
    links: [
      { to: paths.providers, label: m.providers, icon: Boxes },
      { to: paths.proxies, label: m.proxies, icon: Waypoints },
      { to: paths.apiKeys, label: m.apiKeys, icon: KeyRound },
    ],
  },
  {
    title: m.groups.observe,
    links: [
      { to: paths.requests, label: m.requests, icon: Activity },
      { to: paths.usage, label: m.usage, icon: ChartNoAxesColumn },
    ],
  },
  {
    title: m.groups.operate,
    links: [
      { to: paths.gateways, label: m.gateways, icon: Network },
      { to: paths.deployments, label: m.deployments, icon: Rocket },
    ],
  },
] as const;

function NavLink({
  to,
  label,
  icon: Icon,
}: {
  to: (typeof paths)[keyof typeof paths];
  label: string;
  icon: LucideIcon;
}) {
  return (
    <li>
      <Link to={to} className="nav-link" activeOptions={{ exact: to === paths.home, includeSearch: false }}>
        <Icon size={16} aria-hidden="true" />
        {label}
      </Link>
    </li>
  );
}

export function Sidebar({ open }: { open: boolean }) {
  return (
    <aside className={`sidebar${open ? " sidebar-open" : ""}`}>
      <Link to={paths.home} className="brand">
        <Logo />
        {messages.product}
      </Link>
      <nav className="nav" aria-label={m.label}>
        <ul>
          <NavLink to={paths.home} label={m.home} icon={House} />
        </ul>
        {groups.map((group) => (
          <section key={group.title}>
            <h2>{group.title}</h2>
            <ul>
              {group.links.map((link) => (
                <NavLink key={link.to} {...link} />
              ))}
            </ul>
          </section>
        ))}
      </nav>
      <Foot />
    </aside>
  );
}

function Foot() {
  const session = useSession();
  const stream = useStreamState();
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [theme, setTheme] = useState(storedTheme);
  const leaving = useMutation({
    mutationFn: signOut,
    onSettled: () => {
      queries.clear();
      queries.setQueryData(sessionQuery.queryKey, null);
      void navigate({ to: paths.signIn });
    },
  });
  return (
    <div className="sidebar-foot">
      <div className="row-between">
        {mayWatch(session?.permissions ?? []) ? (
          <span className="live" data-state={stream} role="status">
            {m.live[stream]}
          </span>
        ) : (
          <span />
        )}
        <div className="theme-choice">
          <FilterSelect
            label={m.theme}
            value={theme}
            onChange={(event) => {
              const chosen = event.target.value as Theme;
              setTheme(chosen);
              chooseTheme(chosen);
            }}
            options={(["system", "light", "dark"] as const).map((value) => ({ value, label: m.themes[value] }))}
          />
        </div>
      </div>
      {session !== null && (
        <div className="who-line">
          <span className="who">
            <strong>{session.user.displayName || session.user.email}</strong>
            <br />
            <span className="muted">
              {session.user.role} · {session.organization.name}
            </span>
          </span>
          <Button
            variant="quiet"
            size="small"
            iconOnly
            aria-label={m.signOut}
            title={m.signOut}
            reason={leaving.isPending ? messages.working : undefined}
            onClick={() => {
              leaving.mutate();
            }}
          >
            <LogOut size={15} aria-hidden="true" />
          </Button>
        </div>
      )}
    </div>
  );
}
