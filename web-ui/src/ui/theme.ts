// The look: one accent, calm neutrals, system fonts. Colours that Mantine derives too faint for WCAG AA are set here.
import { type CSSVariablesResolver, createTheme, type MantineColorsTuple } from "@mantine/core";

const tide: MantineColorsTuple = [
  "#e6f4f2",
  "#cfe8e5",
  "#a3d3ce",
  "#6fbbb4",
  "#4fc1b6",
  "#1f8e86",
  "#117c75",
  "#0b6e69",
  "#095b57",
  "#064642",
];

const night: MantineColorsTuple = [
  "#e4e9e8",
  "#c3ccca",
  "#a3aeac",
  "#8b9795",
  "#3f494a",
  "#2c3334",
  "#212728",
  "#171b1c",
  "#121516",
  "#0d0f10",
];

const danger: MantineColorsTuple = [
  "#fdecea",
  "#f9d4d1",
  "#f2a9a3",
  "#ff9a90",
  "#e6665b",
  "#d6453a",
  "#c4352b",
  "#b3261e",
  "#96201a",
  "#7a1914",
];

export const FONT =
  'system-ui, -apple-system, "Segoe UI", Roboto, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans SC", sans-serif';
const MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Noto Sans Mono CJK SC", monospace';

export const theme = createTheme({
  primaryColor: "tide",
  primaryShade: 7,
  colors: { tide, dark: night, red: danger },
  fontFamily: FONT,
  fontFamilyMonospace: MONO,
  headings: { fontFamily: FONT, fontWeight: "650" },
  defaultRadius: "md",
  cursorType: "pointer",
  focusRing: "auto",
  respectReducedMotion: true,
  components: {
    Modal: {
      defaultProps: {
        centered: true,
        radius: "lg",
        padding: "lg",
        overlayProps: { backgroundOpacity: 0.45 },
        transitionProps: { duration: 120 },
      },
    },
    Tooltip: { defaultProps: { openDelay: 350, withArrow: false, transitionProps: { duration: 80 } } },
    Menu: { defaultProps: { shadow: "md", transitionProps: { duration: 80 } } },
  },
});

export const resolveVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    "--mantine-color-text": "#1c2322",
    "--mantine-color-dimmed": "#56615f",
    "--mantine-color-placeholder": "#66716f",
    "--mantine-color-error": "#b3261e",
    "--mantine-color-default-border": "#ccd4d2",
    "--mantine-color-anchor": "#0b6e69",
  },
  dark: {
    "--mantine-color-text": "#e4e9e8",
    "--mantine-color-dimmed": "#a3aeac",
    "--mantine-color-placeholder": "#93a09d",
    "--mantine-color-error": "#ff9a90",
    "--mantine-color-default-border": "#3f494a",
    "--mantine-color-anchor": "#5fcfc4",
    "--mantine-color-red-light-color": "#ffb3ab",
    "--mantine-color-tide-light-color": "#7fdcd2",
  },
});
