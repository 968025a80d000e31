/** A page that could not be shown. */
import { useRouter } from "@tanstack/react-router";
import { messages } from "../../messages";
import { Page } from "../../ui/page";
import { ProblemPanel } from "../../ui/problem-panel";

export function Broken({ error, reset }: { error: unknown; reset: () => void }) {
  const router = useRouter();
  const retry = () => {
    reset();
    void router.invalidate();
  };
  return (
    <main className="main">
      <Page title={messages.problem.unexpected} narrow>
        <ProblemPanel error={error} onRetry={retry} />
      </Page>
    </main>
  );
}
