/** The end of a list that goes on. */
import { messages } from "../messages";
import { Button } from "../ui/button";

interface MoreProps {
  query: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown };
}

export function More({ query }: MoreProps) {
  if (!query.hasNextPage) return null;
  return (
    <div className="row">
      <Button
        reason={query.isFetchingNextPage ? messages.loading : undefined}
        onClick={() => void query.fetchNextPage()}
      >
        {messages.loadMore}
      </Button>
    </div>
  );
}
