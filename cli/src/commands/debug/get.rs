//! `debug get`: the admin API as it answers, for paths that have no command.

use std::io::Write;

use anyhow::anyhow;

use crate::admin_api::AdminApi;
use crate::contexts::Contexts;
use crate::exit::Failure;

/// Prints the body of an answer.
///
/// # Errors
/// [`Failure`] when there is no answer, or a problem.
pub async fn run(path: &str, context: Option<&str>) -> Result<(), Failure> {
    if !path.starts_with('/') {
        return Err(anyhow!("{path}: a path begins with /, as /v1/cluster").into());
    }
    let answer = AdminApi::new(&Contexts::find(context)?)?.bytes(path).await?;
    let mut out = std::io::stdout().lock();
    out.write_all(&answer.body)?;
    if !answer.body.ends_with(b"\n") {
        writeln!(out)?;
    }
    Ok(())
}
