//! The broker's own log: lines on standard error, by a filter that may be changed while it runs.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use tidemill_host::admin::log_level::LogFilter;
use tidemill_host::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Begins to log, as the settings say.
///
/// # Errors
/// Why `log.filter` is no filter.
pub fn begin(log: &Log) -> Result<Arc<dyn LogFilter>, String> {
    let filter = read(&log.filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // Somebody else's subscriber would be a bug of this program; there is none.
    let reload: Reload = match log.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
    };
    Ok(Arc::new(Reloaded { words: Mutex::new(log.filter.clone()), reload }))
}

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

struct Reloaded {
    /// The filter as it was given: what is made of it is shown in another order.
    words: Mutex<String>,
    reload: Reload,
}

impl LogFilter for Reloaded {
    fn get(&self) -> String {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, filter: &str) -> Result<(), String> {
        let parsed = read(filter)?;
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        (self.reload)(parsed)?;
        filter.clone_into(&mut words);
        Ok(())
    }
}

fn read(filter: &str) -> Result<EnvFilter, String> {
    if filter.trim().is_empty() {
        return Err("nothing at all is no filter: `off` logs nothing".to_owned());
    }
    EnvFilter::try_new(filter).map_err(|error| {
        format!("{error}: use a level (error, warn, info, debug, trace, off), or `module=level,…,level`")
    })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn filters_are_read_or_refused() {
        for right in ["info", "info,openraft=warn", "tidemill_host::tasks=trace,off"] {
            assert!(read(right).is_ok(), "{right}");
        }
        for wrong in ["", " ", "tidemill_host=lots", "info,=,"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
