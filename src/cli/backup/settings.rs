//! `holdfast backup set`: schedules, public keys, retention.

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::ask;
use crate::backup::repository::Policy;
use crate::cli::{CliError, Global, Output};

/// Which backups stay. A backup that any of them keeps stays.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct KeepArgs {
    /// Keep so many of the newest
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the newest of each of so many hours
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// Keep the newest of each of so many days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest of each of so many weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest of each of so many months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
}

impl KeepArgs {
    fn all(&self) -> [(&'static str, Option<u32>); 5] {
        let Self { keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly } = *self;
        [
            ("last", keep_last),
            ("hourly", keep_hourly),
            ("daily", keep_daily),
            ("weekly", keep_weekly),
            ("monthly", keep_monthly),
        ]
    }

    pub(super) fn is_given(&self) -> bool {
        self.all().iter().any(|(_, count)| count.is_some())
    }

    pub(super) fn policy(&self) -> Policy {
        let [last, hourly, daily, weekly, monthly] = self.all().map(|(_, count)| count.unwrap_or(0));
        Policy { last, hourly, daily, weekly, monthly }
    }
}

/// `holdfast backup set`
#[derive(Clone, Debug, Default, Args)]
pub struct SetArgs {
    /// When full backups are made; "" for never
    #[arg(long, value_name = "CALENDAR")]
    full: Option<String>,
    /// When incremental backups are made; "" for never
    #[arg(long, value_name = "CALENDAR")]
    incremental: Option<String>,
    /// Ship the log every minute as well
    #[arg(long, value_name = "true|false")]
    continuous: Option<bool>,
    /// When the newest backup is restored for a test; "" for never by itself
    #[arg(long, value_name = "CALENDAR")]
    drill: Option<String>,
    /// A public key (age1...) that backups are encrypted for; may be given several times, replaces those before
    #[arg(long, value_name = "KEY")]
    recipient: Vec<String>,
    /// Make no backup without a public key
    #[arg(long, value_name = "true|false")]
    encrypted: Option<bool>,
    /// Alarm when a target has had no backup for so many hours; 0 for never
    #[arg(long, value_name = "HOURS")]
    alarm_hours: Option<u32>,
    /// Alarm when no drill has succeeded for so many days; 0 for never
    #[arg(long, value_name = "DAYS")]
    alarm_drill_days: Option<u32>,
    #[command(flatten)]
    keep: KeepArgs,
}

/// Runs it.
pub(super) fn set(global: &Global, args: &SetArgs, output: &Output) -> Result<(), CliError> {
    let now = ask(global, Method::GET, ("/settings", None))?;
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    put("continuous", args.continuous.map(Value::from));
    put("encrypted", args.encrypted.map(Value::from));
    put("drill", args.drill.clone().map(Value::from));
    put("alarm_backup_hours", args.alarm_hours.map(Value::from));
    put("alarm_drill_days", args.alarm_drill_days.map(Value::from));
    put("recipients", (!args.recipient.is_empty()).then(|| json!(args.recipient)));
    put("schedules", schedules(&now, args));
    put("retention", retention(&now, &args.keep));
    if body.is_empty() {
        return output.show(&now, &crate::cli::status::text(&now));
    }
    let settings = ask(global, Method::PATCH, ("/settings", Some(&Value::Object(body))))?;
    output.show(&settings, &crate::cli::status::text(&settings))
}

/// The schedules `full` and `incremental` as they are to be, the others as they are.
fn schedules(now: &Value, args: &SetArgs) -> Option<Value> {
    let wanted = [("full", &args.full), ("incremental", &args.incremental)];
    if wanted.iter().all(|(_, calendar)| calendar.is_none()) {
        return None;
    }
    let mut all = now.get("schedules").and_then(Value::as_array).cloned().unwrap_or_default();
    for (kind, calendar) in wanted {
        let Some(calendar) = calendar else { continue };
        all.retain(|schedule| schedule.get("name").and_then(Value::as_str) != Some(kind));
        if !calendar.trim().is_empty() {
            all.push(json!({ "name": kind, "calendar": calendar, "kind": kind }));
        }
    }
    Some(Value::Array(all))
}

/// The retention with the given counts, the others as they are.
fn retention(now: &Value, keep: &KeepArgs) -> Option<Value> {
    let mut kept = now.get("retention").cloned().filter(|_| keep.is_given())?;
    for (name, count) in keep.all() {
        if let (Some(fields), Some(count)) = (kept.as_object_mut(), count) {
            fields.insert(name.to_owned(), count.into());
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_changes() {
        let now = json!({
            "schedules": [{"name": "full", "calendar": "daily", "kind": "full"}, {"name": "own", "calendar": "hourly"}],
            "retention": {"last": 3, "daily": 7},
        });
        assert_eq!(schedules(&now, &SetArgs::default()), None);
        let args = SetArgs { full: Some(String::new()), incremental: Some("hourly".to_owned()), ..SetArgs::default() };
        let names: Vec<_> =
            schedules(&now, &args).unwrap().as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names, ["own", "incremental"]);
        assert_eq!(retention(&now, &KeepArgs::default()), None);
        let keep = KeepArgs { keep_daily: Some(9), ..KeepArgs::default() };
        assert_eq!(retention(&now, &keep), Some(json!({"last": 3, "daily": 9})));
    }
}
