// Whether the screen is narrow, and how a header opens the channel list then.
import { createContext, useContext } from "react";

export const NavContext = createContext<{ narrow: boolean; open: () => void }>({
  narrow: false,
  open: () => undefined,
});
export const useNav = () => useContext(NavContext);
