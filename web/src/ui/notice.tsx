/** Something to be told in place. */
import { CircleAlert, CircleCheck, Info, TriangleAlert } from "lucide-react";
import type { ReactNode } from "react";

const icons = { neutral: Info, danger: CircleAlert, warning: TriangleAlert, success: CircleCheck };

export function Notice({ tone = "neutral", title, children, actions, live = false }: NoticeProps) {
  const Icon = icons[tone];
  return (
    <div className={`notice notice-${tone}`} role={tone === "danger" ? "alert" : live ? "status" : undefined}>
      <Icon size={18} aria-hidden="true" />
      <div className="notice-body">
        {title !== undefined && <p className="notice-title">{title}</p>}
        {children}
        {actions !== undefined && <div className="row">{actions}</div>}
      </div>
    </div>
  );
}

interface NoticeProps {
  tone?: keyof typeof icons;
  title?: string;
  children?: ReactNode;
  actions?: ReactNode;
  /** Whether it appears while somebody works, so that it is read out. */
  live?: boolean;
}
