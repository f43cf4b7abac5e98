//! The toolchain that the user builds with: rustup's, or else whichever is on the path.
//!
//! This file holds the only change that a build makes to a machine. It is asked for once, in the open, and a
//! rustup that cannot reach its server is given up after [`PATIENCE`]: the caller has another way.

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::TARGET;
use crate::toolchain::{Toolchain, Way, has_target, output};

/// How long a download may take. The library is about 20 MB.
const PATIENCE: Duration = Duration::from_secs(300);

/// Finds the toolchain that `folder` is built with, and lets rustup fetch the target where it lacks it.
pub(crate) fn find(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Toolchain, String> {
    let Some((cargo, rustc)) = active(folder) else {
        let (cargo, rustc) = on_the_path().ok_or("neither rustup nor rustc is on the path")?;
        return match has_target(&rustc) {
            true => Ok(Toolchain { cargo, rustc, way: Way::Installed }),
            false => Err(format!("{} has no {TARGET}, and there is no rustup to fetch it", rustc.display())),
        };
    };
    if !has_target(&rustc) {
        if env::var("RUSTUP_AUTO_INSTALL").is_ok_and(|value| value == "0") {
            return Err(format!(
                "rustup has no {TARGET}, and RUSTUP_AUTO_INSTALL=0 forbids to fetch it unasked"
            ));
        }
        say(&format!("asking rustup for {TARGET}"));
        add_target(folder).map_err(|why| format!("rustup has no {TARGET}: {why}"))?;
        if !has_target(&rustc) {
            return Err(format!("rustup says that it added {TARGET}, but {} has none", rustc.display()));
        }
    }
    Ok(Toolchain { cargo, rustc, way: Way::Installed })
}

/// Rustup's own cargo and rustc for `folder`: the real programs, not the stand-ins that choose one.
fn active(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let which = |program| {
        let path = output(Command::new("rustup").current_dir(folder).args(["which", program]))?;
        Some(PathBuf::from(path.trim()))
    };
    Some((which("cargo")?, which("rustc")?))
}

fn on_the_path() -> Option<(PathBuf, PathBuf)> {
    let find = |program: &str| {
        let mut folders = env::split_paths(&env::var_os("PATH")?).collect::<Vec<_>>().into_iter();
        folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()))
    };
    Some((find("cargo")?, find("rustc")?))
}

fn add_target(folder: &Path) -> Result<(), String> {
    let mut rustup = Command::new("rustup")
        .current_dir(folder)
        .args(["target", "add", TARGET])
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stderr = rustup.stderr.take().expect("it was piped");
    let said = thread::spawn(move || {
        let mut said = String::new();
        // What cannot be read is only missing from the message.
        let _ = stderr.read_to_string(&mut said);
        said
    });
    let started = Instant::now();
    let status = loop {
        match rustup.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                // Both fail only if it has just ended by itself.
                let _ = rustup.kill();
                let _ = rustup.wait();
                return Err(format!("its download took longer than {} s", PATIENCE.as_secs()));
            }
            None => thread::sleep(Duration::from_millis(50)),
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = said.join().unwrap_or_default();
    Err(said.lines().find(|line| line.starts_with("error")).unwrap_or("it gave no reason").to_owned())
}
