// Whether an input method is composing. The Enter that ends a composition may come before or after `compositionend`,
// with or without `isComposing`; only a flag that is cleared one tick after `compositionend` is right in all cases.
import { useRef } from "react";

export interface ImeGuard {
  onCompositionStart: () => void;
  onCompositionEnd: () => void;
  isComposing: () => boolean;
}

export function createImeGuard(): ImeGuard {
  let composing = false;
  let clearing: ReturnType<typeof setTimeout> | undefined;
  return {
    onCompositionStart: () => {
      clearTimeout(clearing);
      composing = true;
    },
    onCompositionEnd: () => {
      clearTimeout(clearing);
      clearing = setTimeout(() => {
        composing = false;
      }, 0);
    },
    isComposing: () => composing,
  };
}

export function useImeGuard(): ImeGuard {
  const guard = useRef<ImeGuard | null>(null);
  guard.current ??= createImeGuard();
  return guard.current;
}
