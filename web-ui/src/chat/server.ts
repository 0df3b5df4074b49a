// What the server says about itself (limits, certificate), for screens deep in the chat.
import { createContext, useContext } from "react";
import type { ServerInfo } from "../api/types";

export const ServerContext = createContext<ServerInfo | null>(null);

export function useServer(): ServerInfo {
  const server = useContext(ServerContext);
  if (!server) throw new Error("the server info is given by ChatApp");
  return server;
}
