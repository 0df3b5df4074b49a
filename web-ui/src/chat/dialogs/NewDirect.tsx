// Whom to write to directly.
import { useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../../api/calls";
import { useStore } from "../../store/live";
import { putEntry, putUsers } from "../../store/reduce";
import { ErrorNote } from "../../ui/feedback";
import { useGo } from "../router";
import { PickList } from "./PickList";
import { PersonLine, usePeople } from "./people";

export default function NewDirect() {
  const { t } = useTranslation();
  const store = useStore();
  const go = useGo();
  const [text, setText] = useState("");
  const [failure, setFailure] = useState<unknown>(null);
  const people = usePeople(text);
  const items = (people.data?.items ?? [])
    .filter((user) => !user.disabled)
    .map((user) => ({ id: user.id, content: <PersonLine user={user} /> }));
  const pick = (id: string) => {
    setFailure(null);
    const user = people.data?.items.find((found) => found.id === id);
    calls.openDirect(id).then((entry) => {
      store.apply((state) => putEntry(user ? putUsers(state, [user]) : state, entry));
      go.channel(entry.channel.id);
    }, setFailure);
  };
  return (
    <>
      <PickList
        label={t("people.search")}
        placeholder={t("people.search")}
        empty={t("people.empty")}
        text={text}
        onText={setText}
        items={items}
        onPick={pick}
        busy={people.isPending}
      />
      <ErrorNote error={failure ?? people.error} />
    </>
  );
}
