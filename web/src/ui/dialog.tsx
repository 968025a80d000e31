/** Dialogs: a question, a form, or something shown once. */
import { Dialog as Base } from "@base-ui/react/dialog";
import { X } from "lucide-react";
import type { ReactNode } from "react";
import { useRef } from "react";
import { messages } from "../messages";
import { Button } from "./button";

interface DialogProps {
  open: boolean;
  onClose: () => void;
  title: string;
  description?: string | undefined;
  children: ReactNode;
  shape?: "normal" | "wide" | "drawer";
  /** While false neither Escape nor a press outside closes it, and there is no cross. */
  dismissable?: boolean;
}

export function Dialog({
  open,
  onClose,
  title,
  description,
  children,
  shape = "normal",
  dismissable = true,
}: DialogProps) {
  const popup = useRef<HTMLDivElement>(null);
  return (
    <Base.Root
      open={open}
      disablePointerDismissal={!dismissable}
      onOpenChange={(next, details) => {
        if (next) return;
        if (dismissable) onClose();
        else details.cancel();
      }}
    >
      <Base.Portal>
        <Base.Backdrop className="dialog-scrim" />
        <Base.Popup
          ref={popup}
          className={`dialog dialog-${shape}`}
          // What is to be filled in or taken away comes before the cross.
          initialFocus={() => popup.current?.querySelector<HTMLElement>("input, select, textarea") ?? true}
        >
          <div className="dialog-head">
            <div className="stack-tight">
              <Base.Title>{title}</Base.Title>
              {description !== undefined && <Base.Description className="muted">{description}</Base.Description>}
            </div>
            {dismissable && (
              <Base.Close
                render={
                  <Button
                    variant="quiet"
                    size="small"
                    iconOnly
                    aria-label={messages.close}
                    children={<X size={16} />}
                  />
                }
              />
            )}
          </div>
          {children}
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
  );
}

interface ConfirmProps {
  open: boolean;
  onClose: () => void;
  title: string;
  description: string;
  action: string;
  busy: boolean;
  /** Why it cannot be done now; undefined when it can. */
  reason?: string | undefined;
  onConfirm: () => void;
  children?: ReactNode;
}

/** A question before something that cannot be taken back. */
export function Confirm({
  open,
  onClose,
  title,
  description,
  action,
  busy,
  reason,
  onConfirm,
  children,
}: ConfirmProps) {
  return (
    <Dialog open={open} onClose={onClose} title={title} description={description}>
      {children}
      <div className="dialog-foot">
        <Button onClick={onClose}>{messages.cancel}</Button>
        <Button variant="danger" reason={reason ?? (busy ? messages.working : undefined)} onClick={onConfirm}>
          {action}
        </Button>
      </div>
    </Dialog>
  );
}
