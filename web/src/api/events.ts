/**
 * The live stream, one connection for all tabs of a browser: HTTP/1.1 allows six connections per host, and every open
 * tab would take one for good. The tab that holds the lock reads the stream and passes what it hears to the others.
 */
import type { Deployment, RequestRow } from "./types";

export type LiveEvent =
  | { name: "revision"; data: { revision: number } }
  | { name: "deployment"; data: Pick<Deployment, "id" | "status"> & Partial<Deployment> }
  | { name: "node"; data: { gateway: string; node: string; status: string; revision: number } }
  | { name: "request"; data: RequestRow };

/** `open` after the server has accepted the stream; `lost` while it is being sought again. */
export type StreamState = "connecting" | "open" | "lost";

export interface Listener {
  event: (event: LiveEvent) => void;
  state: (state: StreamState) => void;
}

const NAMES = ["revision", "deployment", "node", "request"] as const;
const SHORTEST_PAUSE = 2_000;
const LONGEST_PAUSE = 60_000;
const CHANNEL = "lockgate-events";

type Shared = { event: LiveEvent } | { state: StreamState } | { ask: true };

/** Reads the stream itself; the browser reconnects and names the last event it saw. */
function read(listener: Listener): () => void {
  let source: EventSource | undefined;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let pause = SHORTEST_PAUSE;
  const open = () => {
    source = new EventSource("/api/v1/events");
    source.onopen = () => {
      pause = SHORTEST_PAUSE;
      listener.state("open");
    };
    source.onerror = () => {
      listener.state("lost");
      // Closed for good (the session has ended, or the server refused): the browser will not try again by itself.
      if (source?.readyState !== EventSource.CLOSED) return;
      retry = setTimeout(open, pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    };
    for (const name of NAMES) {
      source.addEventListener(name, (message: MessageEvent<string>) => {
        listener.event({ name, data: JSON.parse(message.data) } as LiveEvent);
      });
    }
  };
  listener.state("connecting");
  open();
  return () => {
    clearTimeout(retry);
    source?.close();
  };
}

/** Listens to the shared stream until the returned function is called. */
export function listen(listener: Listener): () => void {
  // Locks exist in secure contexts only; without them every tab reads for itself.
  const locks = (navigator as { locks?: LockManager }).locks;
  if (locks === undefined) return read(listener);

  const channel = new BroadcastChannel(CHANNEL);
  const over = new AbortController();
  let leads = false;
  let current: StreamState = "connecting";
  const post = (message: Shared) => {
    channel.postMessage(message);
  };
  channel.onmessage = ({ data }: MessageEvent<Shared>) => {
    if ("event" in data) listener.event(data.event);
    else if ("state" in data) listener.state(data.state);
    else if (leads) post({ state: current });
  };
  post({ ask: true });

  const lead = () =>
    new Promise<void>((release) => {
      leads = true;
      const stop = read({
        event: (event) => {
          listener.event(event);
          post({ event });
        },
        state: (state) => {
          current = state;
          listener.state(state);
          post({ state });
        },
      });
      over.signal.addEventListener("abort", () => {
        stop();
        release();
      });
    });
  locks.request(CHANNEL, { signal: over.signal }, lead).catch(() => undefined);
  return () => {
    over.abort();
    channel.close();
  };
}
