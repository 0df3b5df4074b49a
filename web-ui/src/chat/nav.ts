// Whether the screen is narrow, and how the channel list is opened and closed then.
import { createContext, useContext } from "react";

interface Nav {
  narrow: boolean;
  open: () => void;
  close: () => void;
}

export const NavContext = createContext<Nav>({ narrow: false, open: () => undefined, close: () => undefined });
export const useNav = () => useContext(NavContext);
