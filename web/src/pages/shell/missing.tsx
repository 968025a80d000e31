/** An address that leads nowhere. */
import { Link } from "@tanstack/react-router";
import { messages } from "../../messages";
import { paths } from "../../paths";
import { Empty } from "../../ui/empty";
import { Page } from "../../ui/page";

const m = messages.problem;

export function Missing() {
  return (
    <main className="main">
      <Page title={m.notFoundTitle}>
        <Empty
          sentence={m.notFound}
          action={
            <Link to={paths.home} className="button">
              {m.home}
            </Link>
          }
        />
      </Page>
    </main>
  );
}
