// The page around everything before the chat: a card, the name of the organisation, language and appearance.
import "./login.css";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { LanguageChoice, ThemeChoice } from "../ui/choices";
import mark from "../ui/mark.svg";

export function Frame({
  title,
  subtitle,
  children,
  footer,
}: {
  title: string;
  subtitle?: ReactNode;
  children?: ReactNode;
  footer?: ReactNode;
}) {
  const { t } = useTranslation();
  return (
    <div className="lg-page">
      <header className="lg-top">
        <span className="lg-brand">
          <img src={mark} width={28} height={28} alt="" />
          {t("common.app")}
        </span>
        <span className="hf-row">
          <LanguageChoice />
          <ThemeChoice />
        </span>
      </header>
      <main className="lg-card">
        <h1>{title}</h1>
        {subtitle ? <p className="lg-sub">{subtitle}</p> : null}
        {children}
      </main>
      {footer ? <div className="lg-footer">{footer}</div> : null}
    </div>
  );
}
