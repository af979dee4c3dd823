//! The program's own log: structured, on standard error. Not the log of certified mail, which is
//! the store's.
//!
//! No secret reaches it, nor the content of a message: types that hold one print `[redacted]`.

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts the log; `RUST_LOG` wins over the configuration. A line that cannot be written, because
/// the disk below standard error is full or its reader gone, is lost and nothing else: what the
/// subscriber would say of it goes to standard error too, and would take the thread with it.
pub(crate) fn start(config: &LogConfig) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&config.level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // An error is only that somebody started it already.
    let _ = match config.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
