// Which screen a visitor gets: set-up, invite, sign-in, the password gate or the chat. Only the small screens are in the
// first chunk; the chat loads when somebody is signed in.
import { Button } from "@mantine/core";
import { lazy, Suspense, useCallback, useEffect, useState, useSyncExternalStore } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "./api/calls";
import { PATIENCE_MS } from "./api/client";
import { find } from "./api/nodes";
import { getToken, setToken, subscribeToken } from "./api/session";
import type { Me, ServerInfo, SignedIn } from "./api/types";
import { currentLocale, followAccount, needChatTexts } from "./i18n";
import { LoginPage } from "./login/LoginPage";
import { ErrorNote, Loading } from "./ui/feedback";

const SetupPage = lazy(() => import("./login/SetupPage"));
const InvitePage = lazy(() => import("./login/InvitePage"));
const PasswordGate = lazy(() => import("./login/PasswordGate"));
const ChatApp = lazy(async () => (await Promise.all([import("./chat/ChatApp"), needChatTexts()]))[0]);

type Place = "setup" | "invite" | "app";

function placeOf(path: string): Place {
  return path === "/setup" ? "setup" : path === "/invite" ? "invite" : "app";
}

export function Gate() {
  const token = useSyncExternalStore(subscribeToken, getToken);
  const [place, setPlace] = useState<Place>(placeOf(window.location.pathname));
  const [server, setServer] = useState<ServerInfo | null>(null);
  const [failure, setFailure] = useState<unknown>(null);

  const loadServer = useCallback(() => {
    setFailure(null);
    calls
      .server()
      .then(async (info) => {
        // A standby shows what it has, but only the active node knows who is signed in at this moment.
        if (info.node.role !== "active") await find({ forMs: PATIENCE_MS });
        setServer(info);
        followAccount("", info.default_locale);
        document.title = info.organisation || "Holdfast";
      })
      .catch(setFailure);
  }, []);
  useEffect(loadServer, [loadServer]);

  const enter = useCallback(
    (signedIn: SignedIn) => {
      window.history.replaceState(null, "", "/");
      setToken(signedIn.token);
      setPlace("app");
      loadServer();
    },
    [loadServer],
  );

  const toLogin = useCallback(() => {
    window.history.replaceState(null, "", "/");
    setPlace("app");
  }, []);

  if (failure) return <Unreachable error={failure} onRetry={loadServer} />;
  if (!server) return <Loading />;
  return (
    <Suspense fallback={<Loading />}>
      {place === "setup" ? (
        <SetupPage server={server} onDone={enter} onLogin={toLogin} />
      ) : place === "invite" ? (
        <InvitePage server={server} onDone={enter} onLogin={toLogin} />
      ) : token === null ? (
        <LoginPage server={server} onDone={enter} />
      ) : (
        <SignedInGate key={token} server={server} />
      )}
    </Suspense>
  );
}

function SignedInGate({ server }: { server: ServerInfo }) {
  const [me, setMe] = useState<Me | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const load = useCallback(() => {
    setFailure(null);
    calls.me().then((found) => {
      followAccount(found.user.locale, found.settings.default_locale);
      setMe(found);
    }, setFailure);
  }, []);
  useEffect(load, [load]);
  if (failure) return <Unreachable error={failure} onRetry={load} />;
  if (!me) return <Loading />;
  if (me.user.must_change_password) return <PasswordGate server={server} me={me} onDone={load} />;
  return <ChatApp server={server} me={me} />;
}

function Unreachable({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  const { t } = useTranslation();
  return (
    <main className="hf-center" lang={currentLocale()}>
      <h1>{t("boot.failed")}</h1>
      <p className="hf-dim">{t("boot.failed_hint")}</p>
      <ErrorNote error={error} />
      <Button onClick={onRetry}>{t("common.retry")}</Button>
    </main>
  );
}
