// The chat of a signed-in user: starts the live store, then shows the routes.
import "../ui/chat-base.css";
import "./chat.css";
import { Button } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { toApiError } from "../api/errors";
import type { Me, ServerInfo } from "../api/types";
import { LiveContext, LiveStore } from "../store/live";
import { ErrorNote } from "../ui/feedback";
import { createChatRouter } from "./router";
import { ShellSkeleton } from "./Skeletons";
import { ServerContext } from "./server";

export default function ChatApp({ server, me }: { server: ServerInfo; me: Me }) {
  const { t } = useTranslation();
  const [store, setStore] = useState<LiveStore | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const [attempt, setAttempt] = useState(0);
  const [router] = useState(createChatRouter);
  const [queries] = useState(
    () =>
      new QueryClient({
        defaultOptions: {
          queries: {
            retry: (count, error) => count < 2 && toApiError(error).retryable,
            staleTime: 10_000,
            networkMode: "always",
          },
          mutations: { networkMode: "always" },
        },
      }),
  );
  // biome-ignore lint/correctness/useExhaustiveDependencies: `attempt` starts it again
  useEffect(() => {
    const starting = new LiveStore(me);
    let dropped = false;
    setFailure(null);
    starting.start().then(
      () => (dropped ? starting.stop() : setStore(starting)),
      (cause) => !dropped && setFailure(cause),
    );
    return () => {
      dropped = true;
      starting.stop();
      setStore(null);
    };
  }, [me, attempt]);

  if (failure) {
    return (
      <main className="hf-center">
        <h1>{t("boot.failed")}</h1>
        <p className="hf-dim">{t("boot.failed_hint")}</p>
        <ErrorNote error={failure} />
        <Button onClick={() => setAttempt((count) => count + 1)}>{t("common.retry")}</Button>
      </main>
    );
  }
  if (!store) return <ShellSkeleton />;
  return (
    <QueryClientProvider client={queries}>
      <ServerContext value={server}>
        <LiveContext value={store}>
          <RouterProvider router={router} />
        </LiveContext>
      </ServerContext>
    </QueryClientProvider>
  );
}
