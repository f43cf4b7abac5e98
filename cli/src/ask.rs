//! Asking before something is done that cannot be undone.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::anyhow;

use crate::exit::Failure;

/// Asks whoever sits there; without a terminal, only `--yes` agrees.
///
/// # Errors
/// [`Failure::Refused`] when nobody agreed.
pub fn agreed(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(anyhow!("{question}Nothing was done: say --yes to agree").into());
    }
    eprint!("{question}Go on? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(anyhow!("nothing was done").into()),
    }
}
