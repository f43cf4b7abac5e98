//! What needs a whole broker's code: its settings, the documents of its admin API, components and bundles.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use bytes::Bytes;
use tidemill_core::bundle::check_path;
use tidemill_host::admin;
use tidemill_host::config::Layers;
use tidemill_runtime::bundle::archive;
use tidemill_runtime::{CodeOptions, Compiler, InProcess, Runtime, RuntimeOptions};

/// Settings: as a file, as variables of the environment, as flags.
pub fn settings(bytes: &[u8]) {
    let mut layers = Layers::new();
    layers.file("settings.toml", &String::from_utf8_lossy(bytes));
    resolve(&layers);
    let mut layers = Layers::new();
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        Some((line[..at].to_vec(), line[at + 1..].to_vec()))
    });
    for (key, value) in lines {
        layers.flag(&String::from_utf8_lossy(&key), &String::from_utf8_lossy(&value));
        let mut name = b"TIDEMILL_".to_vec();
        name.extend_from_slice(&key);
        layers.environment([(OsString::from_vec(name), OsString::from_vec(value))]);
    }
    resolve(&layers);
}

fn resolve(layers: &Layers) {
    match layers.resolve() {
        Ok(config) => assert!(config.listen.tcp.is_none_or(|tcp| tcp.ip().is_loopback())),
        Err(error) => assert!(!error.0.is_empty() && error.0.iter().all(|line| !line.is_empty())),
    }
    assert!(!layers.show().is_empty());
}

/// Documents that the admin API is sent, as each kind that there is.
pub fn documents(bytes: &[u8]) {
    for problem in admin::hostile(bytes) {
        assert_eq!(problem.fields.len(), 1, "{problem:?}");
        assert!(problem.status == 400 && problem.detail.starts_with(&problem.fields[0].field), "{problem:?}");
    }
}

/// Archives of bundles. There is one way to write one, and nothing in it leads out.
pub fn bundles(bytes: &[u8]) {
    match archive::read(bytes) {
        Ok(files) => {
            assert!(archive::pack(&files).as_deref() == Ok(bytes), "what is read is written alike");
            assert!(files.keys().all(|path| check_path(path).is_ok()));
        }
        Err(refused) => assert!(!refused.to_string().chars().any(char::is_control), "{refused:?}"),
    }
}

/// Components: compiled, and admitted or refused.
pub fn components(bytes: &[u8]) {
    static RUNTIME: OnceLock<(Runtime, tokio::runtime::Runtime)> = OnceLock::new();
    let code = CodeOptions::default();
    let (runtime, threads) = RUNTIME.get_or_init(|| {
        let runtime = Runtime::new(RuntimeOptions { code, ..RuntimeOptions::default() }).expect("an engine");
        let threads = tokio::runtime::Builder::new_current_thread().build().expect("a thread");
        (runtime, threads)
    });
    let compiled = threads.block_on(InProcess { code }.compile(Bytes::copy_from_slice(bytes)));
    match compiled {
        Ok(artifact) => match runtime.load(&artifact) {
            Ok(plugin) => assert!(!plugin.contract().is_empty()),
            Err(refused) => assert!(!refused.to_string().is_empty()),
        },
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}
