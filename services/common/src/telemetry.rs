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
        let mut fields = Fields(serde_json::Map::new());
        let severity = match *metadata.level() {
            tracing::Level::ERROR => "ERROR",
            tracing::Level::WARN => "WARNING",
            tracing::Level::INFO => "INFO",
            tracing::Level::DEBUG | tracing::Level::TRACE => "DEBUG",
        };
        fields.0.insert("severity".into(), severity.into());
        fields.0.insert("time".into(), jiff::Timestamp::now().to_string().into());
        fields.0.insert("target".into(), metadata.target().into());
        let spans: Vec<serde_json::Value> = context
            .event_scope()
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
            .map(|span| {
                let extensions = span.extensions();
                let text = extensions.get::<fmt::FormattedFields<N>>().map(|fields| fields.fields.as_str());
                match text.unwrap_or_default() {
                    "" => span.name().into(),
                    fields => format!("{}{{{fields}}}", span.name()).into(),
                }
            })
            .collect();
        if !spans.is_empty() {
            fields.0.insert("spans".into(), spans.into());
        }
        event.record(&mut fields);
        writeln!(writer, "{}", serde_json::Value::Object(fields.0))
    }
}

struct Fields(serde_json::Map<String, serde_json::Value>);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &tracing::field::Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

/// Runs a service's program; an error that ends it is logged, and tells by the exit code.
pub fn program(start: impl FnOnce() -> anyhow::Result<()>) -> std::process::ExitCode {
    match start() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Logging may not have started yet; starting it twice changes nothing.
            init("info");
            tracing::error!("failed to {error:#}");
            std::process::ExitCode::from(crate::exit::FAILED)
        }
    }
}
