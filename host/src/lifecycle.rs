//! What becomes of plugins that are deployed: paused, resumed, rolled back, begun anew, deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_core::catalog::lifecycle::{self, Order};
use tidemill_core::catalog::{self, Deployment};
use tidemill_core::manifest::StartAt;
use tidemill_core::rejection::Rejection;
use tidemill_core::shard::control::Control;
use tidemill_core::task::BehindLogStart;
use tidemill_protocol::ids::Partition;

use crate::catalog::reconcile;
use crate::plugins::{DeployError, Deployed, Plugins};
use crate::shards::Shard;

impl Plugins {
    /// Has a plugin's tasks take no steps. What they have not consumed waits.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn pause(&self, tenant: &str, name: &str) -> Result<Deployed, DeployError> {
        let paused =
            self.carry_out(|view, now| lifecycle::decide(view, now, (tenant, name), &Order::Pause)).await?;
        tracing::info!(plugin = name, "paused");
        Ok(paused)
    }

    /// Has a plugin's tasks take steps again, be it that they were paused, or that its failure policy stopped them; or
    /// tells them what the topics take now that they write to. Those that are behind a log start go on where `behind`
    /// says; without it, it is refused.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn resume(
        &self,
        tenant: &str,
        name: &str,
        behind: Option<BehindLogStart>,
    ) -> Result<Deployed, DeployError> {
        let known = self.known(tenant, name)?;
        let told = self.behind(&known)?;
        let choice = behind.unwrap_or(known.spec.failure.behind_log_start);
        if !told.is_empty() {
            if choice == BehindLogStart::Stop {
                return Err(Rejection::Behind(told.join("; ")).into());
            }
            let deployment = known.id;
            for shard in self.shards_of(&known) {
                shard.control(&Control::PassTasks { deployment, choice: Some(choice) }).await?;
            }
            tracing::warn!(plugin = name, ?choice, "goes on behind what was removed");
        }
        let is_running = self.describe(&known)?.iter().all(|task| task.status == "running");
        if is_running && lifecycle::knows_limits(&self.catalog.view(), &known)? {
            return Ok(Deployed { deployment: known, changed: false });
        }
        let resumed =
            self.carry_out(|view, now| lifecycle::decide(view, now, (tenant, name), &Order::Resume)).await?;
        tracing::info!(plugin = name, "resumed");
        Ok(resumed)
    }

    /// Deploys the version that was at work before this one, where this one stands.
    ///
    /// # Errors
    /// [`DeployError`], also when there was none, or its component is not here any more.
    pub async fn rollback(&self, tenant: &str, name: &str) -> Result<Deployed, DeployError> {
        let known = self.known(tenant, name)?;
        let Some(previous) = known.previous else {
            return Err(Rejection::Missing(format!("version of {name} before this one")).into());
        };
        self.deploy(tenant, previous.manifest, previous.digest, false).await
    }

    /// Has a plugin's tasks begin anew; with `fresh_state`, they forget what they kept.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn reset(
        &self,
        tenant: &str,
        name: &str,
        to: &StartAt,
        fresh_state: bool,
    ) -> Result<Deployed, DeployError> {
        let mut manifest = self.known(tenant, name)?.manifest;
        manifest.subscribe.iter_mut().for_each(|subscription| subscription.from = to.clone());
        let order = Order::Reset { starts: self.starts(tenant, &manifest).await?, fresh_state };
        let reset = self.carry_out(|view, now| lifecycle::decide(view, now, (tenant, name), &order)).await?;
        tracing::info!(plugin = name, ?to, fresh_state, "begins anew");
        Ok(reset)
    }

    /// Ends a plugin: its tasks and their state are removed. Its topics stay, and what its steps derived arrives in
    /// them.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn delete(&self, tenant: &str, name: &str) -> Result<Deployment, DeployError> {
        let _order = self.order.lock().await;
        let deleted = self
            .catalog
            .change(|view, _| {
                Ok(lifecycle::delete(view, tenant, name)?.map(|(known, command)| (known, Some(command))))
            })
            .await?;
        reconcile::remove_tasks(&self.shards, deleted.id).await?;
        self.tasks.forget(deleted.id);
        self.metrics.forget(name);
        tracing::info!(plugin = name, "deleted");
        Ok(deleted)
    }

    /// The shards that have tasks of a deployment.
    fn shards_of(&self, deployment: &Deployment) -> impl Iterator<Item = &Arc<Shard>> {
        let spec = &deployment.spec;
        let homes: BTreeSet<_> =
            (0..spec.tasks()).map(|partition| spec.home_of(Partition(partition))).collect();
        homes.into_iter().filter_map(|home| self.shards.get(usize::from(home.0)))
    }

    fn known(&self, tenant: &str, name: &str) -> Result<Deployment, DeployError> {
        let known = catalog::deployment(&self.catalog.view(), tenant, name)?;
        known.ok_or_else(|| Rejection::Missing(format!("plugin {name}")).into())
    }
}
