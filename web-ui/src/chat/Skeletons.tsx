// Grey shapes in the place of what is loading.
import { useTranslation } from "react-i18next";

export function ShellSkeleton() {
  const { t } = useTranslation();
  return (
    <div className="ch-shell" role="status" aria-label={t("common.loading")}>
      <div className="ch-side ch-only-wide">
        <div className="sk-lines">
          {[70, 55, 80, 45, 60, 50].map((width) => (
            <span key={width} className="sk" style={{ width: `${width}%` }} />
          ))}
        </div>
      </div>
      <div className="ch-main">
        <TimelineSkeleton />
      </div>
    </div>
  );
}

export function TimelineSkeleton() {
  return (
    <div className="sk-timeline" aria-hidden="true">
      {[62, 40, 75, 52, 34].map((width) => (
        <div key={width} className="sk-message">
          <span className="sk sk-face" />
          <div className="sk-lines">
            <span className="sk" style={{ width: 120 }} />
            <span className="sk" style={{ width: `${width}%` }} />
          </div>
        </div>
      ))}
    </div>
  );
}
