// People found by name, for the dialogs that pick somebody.
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import * as calls from "../../api/calls";
import type { User } from "../../api/types";
import { useLive } from "../../store/live";
import { Avatar } from "../../ui/Avatar";

const SEARCH_PAUSE_MS = 200;
const PEOPLE_ROWS = 50;

export function usePeople(text: string) {
  const [query] = useDebouncedValue(text.trim(), SEARCH_PAUSE_MS);
  return useQuery({
    queryKey: ["people", query],
    queryFn: () => calls.users(query, undefined, PEOPLE_ROWS),
    placeholderData: keepPreviousData,
    staleTime: 0,
  });
}

export function PersonLine({ user }: { user: User }) {
  const online = useLive((state) => state.online.has(user.id));
  return (
    <>
      <Avatar id={user.id} name={user.display_name || user.username} size={30} online={online} />
      <span className="hf-pick-text">
        <span>{user.display_name || user.username}</span>
        <small>{user.username}</small>
      </span>
    </>
  );
}
