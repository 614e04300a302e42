//! Logs: JSON lines that Cloud Logging parses in a cluster, plain text on a terminal.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Starts logging to standard error. `filter` is an [`EnvFilter`] directive such as `info` or `orchestrator=debug`.
/// A second call in one process changes nothing.
pub fn init(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let _ = if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false)).try_init()
    } else {
        registry.with(fmt::layer().event_format(CloudLogging).with_writer(std::io::stderr).with_ansi(false)).try_init()
    };
}

/// One JSON object a line, with the field names that Cloud Logging's agent lifts into the log entry
/// (`severity`, `message`, `time`; see its "structured logging" page).
struct CloudLogging;

impl<S, N> fmt::FormatEvent<S, N> for CloudLogging
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    N: for<'a> fmt::FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &fmt::FmtContext<'_, S, N>,
        mut writer: fmt::format::Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let metadata = event.metadata();
        let mut line = Line(Vec::with_capacity(512));
        let severity = match *metadata.level() {
            tracing::Level::ERROR => "ERROR",
            tracing::Level::WARN => "WARNING",
            tracing::Level::INFO => "INFO",
            tracing::Level::DEBUG | tracing::Level::TRACE => "DEBUG",
        };
        line.put("severity", severity);
        line.put("time", &jiff::Timestamp::now());
        line.put("target", metadata.target());
        let spans: Vec<String> = context
            .event_scope()
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
            .map(|span| {
                let extensions = span.extensions();
                let text = extensions.get::<fmt::FormattedFields<N>>().map(|fields| fields.fields.as_str());
                match text.unwrap_or_default() {
                    "" => span.name().to_owned(),
                    fields => format!("{}{{{fields}}}", span.name()),
                }
            })
            .collect();
        if !spans.is_empty() {
            line.put("spans", &spans);
        }
        event.record(&mut line);
        line.0.extend_from_slice(b"}\n");
        writer.write_str(std::str::from_utf8(&line.0).map_err(|_| std::fmt::Error)?)
    }
}

/// A JSON object, written field by field. Services write one for every Job, so it is not built as a value first.
struct Line(Vec<u8>);

impl Line {
    fn put<T: serde::Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(&mut self.0, name);
        self.0.push(b':');
        let _ = serde_json::to_writer(&mut self.0, value);
    }
}

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.put(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
        self.put(field.name(), &value);
    }

    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        self.put(field.name(), &value);
    }

    fn record_f64(&mut self, field: &tracing::field::Field, value: f64) {
        self.put(field.name(), &value);
    }

    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        self.put(field.name(), &value);
    }
}

/// Runs a service. An error is logged, and makes the exit code.
pub fn program(start: impl FnOnce() -> anyhow::Result<()>) -> std::process::ExitCode {
    match start() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Logging may not have started yet; starting it twice changes nothing.
            init("info");
            tracing::error!("failed to {error:#}");
            std::process::ExitCode::from(contract::exit::FAILED)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_json_object_with_the_names_that_cloud_logging_knows() {
        let written = Written::default();
        let writer = written.clone();
        let layer = fmt::layer().event_format(CloudLogging).with_writer(move || writer.clone()).with_ansi(false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _span = tracing::info_span!("message", message_id = "7").entered();
            let why = "a \"quoted\"\nline \u{1}";
            tracing::warn!(job = "a.json", count = 3_u64, ratio = 0.5, done = true, why, "failed to {}", "x");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let mut line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(line["time"].take().as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        let wanted = serde_json::json!({
            "severity": "WARNING", "time": null, "target": line["target"], "spans": ["message{message_id=\"7\"}"],
            "message": "failed to x", "job": "a.json", "count": 3, "ratio": 0.5, "done": true,
            "why": "a \"quoted\"\nline \u{1}",
        });
        assert_eq!(line, wanted);
    }
}
