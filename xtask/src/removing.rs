//! Removal of businesses, as `remove-business` and `teardown` show and confirm it.

use std::time::Duration;

use anyhow::Context as _;
use cli::{confirm, output::Output, text};
use cloud::storage::Store;
use provision::{
    Cloud, Environment, data,
    data::Stock,
    deploy::{self, ChangeView},
    environment::{Business, CloudKind},
    lock,
    manifests::WEB_NAMESPACE,
    plan::Plan,
    presence, removal, show,
    teardown::{self, Teardown},
    unsettled::{Unsettled, unsettled},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    context, locking,
    setup::{self, showing},
};

/// How long a call to Cloud Storage is retried.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of a removal.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Cancel running Jobs, and continue although work waits
    #[arg(long)]
    pub(crate) cancel: bool,
    /// Delete the data too: inputs, results, outcomes
    #[arg(long)]
    pub(crate) delete_data: bool,
    /// Agree beforehand to the deletion of the data in this bucket
    #[arg(long, value_name = "BUCKET", requires = "delete_data")]
    pub(crate) yes_delete: Vec<String>,
    /// Delete service accounts and custom roles too; new ones of the same names are others to every binding
    #[arg(long)]
    pub(crate) identities: bool,
    /// Longest time to wait for running Jobs, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) wait: u64,
    /// Do not ask before changing anything
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Only show what would be deleted and what would stay
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) lock: locking::LockArgs,
}

/// The removal of what only `before` has.
pub(crate) struct Removal<'a> {
    pub(crate) before: &'a Environment,
    pub(crate) after: Option<&'a Environment>,
    pub(crate) cloud: &'a Cloud,
    /// What changes in the cluster beside the removal.
    pub(crate) changed: Vec<ChangeView>,
    pub(crate) options: &'a Options,
    pub(crate) lock: lock::Settings,
}

/// One business before its removal.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PendingRemoval {
    business: String,
    data: Stock,
    jobs: Unsettled,
}

/// The result; the last line with `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "done")]
pub(crate) struct Report {
    plan: Plan,
    businesses: Vec<PendingRemoval>,
    objects_deleted: usize,
    /// Our resources that should be deleted and are not.
    pub(crate) left: Vec<String>,
}

impl Report {
    /// One line for a person.
    pub(crate) fn summary(&self) -> String {
        let there: usize = self.businesses.iter().map(|removals| removals.data.total()).sum();
        let stay = there.saturating_sub(self.objects_deleted);
        let left = if self.left.is_empty() { "nothing else of it is left" } else { "something is left" };
        format!("{} deleted, {stay} kept; {left}", text::count(self.objects_deleted, "object"))
    }
}

impl Removal<'_> {
    /// Removes it; only shows the plan with `--dry-run`.
    ///
    /// # Errors
    /// When work is pending, the user does not agree, or a step fails.
    pub(crate) async fn run(&self, output: &Output) -> anyhow::Result<Option<Report>> {
        let store = Store::connect_for(&self.cloud.connection(), PATIENCE).await?;
        let there = presence::has_cluster(self.before, self.cloud).await?;
        let teardown = self.teardown(&store, there);
        let reads = teardown.businesses().into_iter().map(|business| self.read_business(&store, business, there));
        let progress = setup::progress(output);
        let (plan, removals) = tokio::try_join!(teardown.plan(&progress), futures::future::try_join_all(reads))?;
        let mut cluster = if there { self.going(&teardown.businesses()).await? } else { Vec::new() };
        cluster.extend(self.changed.iter().cloned());
        if self.options.dry_run {
            self.show(&plan, &cluster, &removals, output)?;
            return Ok(None);
        }
        output.note_changes(&show::render(&plan));
        showing::note(&cluster, output);
        for line in self.describe(&removals) {
            output.note(line);
        }
        setup::check_unblocked(&plan)?;
        self.nothing_pending(&removals)?;
        self.agree(&teardown.businesses())?;

        let report = |what: &str| output.note(format_args!("  {what}"));
        let teardown = Teardown { report: &report, ..self.teardown(&store, there) };
        if output.json {
            output.record(&json!({"event": "plan", "plan": plan, "cluster": cluster, "businesses": removals}))?;
        }
        let gone = teardown.carry_out(&plan, &self.lock, &setup::progress_and_events(output)).await?;
        Ok(Some(Report { plan: gone.plan, businesses: removals, objects_deleted: gone.objects, left: gone.left }))
    }

    fn teardown<'s>(&'s self, store: &'s Store, has_cluster: bool) -> Teardown<'s> {
        let removal = removal::Options { data: self.options.delete_data, identities: self.options.identities };
        Teardown {
            before: self.before,
            after: self.after,
            cloud: self.cloud,
            store,
            has_cluster,
            options: teardown::Options {
                removal,
                cancel: self.options.cancel,
                settle: Duration::from_secs(self.options.wait),
                rollout: deploy::LIMIT,
            },
            report: &|_| {},
        }
    }

    async fn read_business(&self, store: &Store, business: &Business, there: bool) -> anyhow::Result<PendingRemoval> {
        let data = data::stock(store, business).await?;
        let jobs = match there {
            true => unsettled(self.cloud.cluster()?, &business.namespace).await?,
            false => Unsettled::default(),
        };
        Ok(PendingRemoval { business: business.name.clone(), data, jobs })
    }

    /// What goes in the cluster.
    async fn going(&self, businesses: &[&Business]) -> anyhow::Result<Vec<ChangeView>> {
        let mut namespaces: Vec<String> = businesses.iter().map(|business| business.namespace.clone()).collect();
        namespaces.extend(self.after.is_none().then(|| WEB_NAMESPACE.to_owned()));
        deploy::going(self.cloud.cluster()?, &self.before.name, &namespaces).await
    }

    fn show(
        &self,
        plan: &Plan,
        cluster: &[ChangeView],
        removals: &[PendingRemoval],
        output: &Output,
    ) -> anyhow::Result<()> {
        if output.json {
            return output.document(&json!({"plan": plan, "cluster": cluster, "businesses": removals}));
        }
        output.changes(&show::render(plan))?;
        showing::show(cluster, output)?;
        for line in self.describe(removals) {
            output.line(line)?;
        }
        Ok(())
    }

    /// What is deleted and what stays of each business.
    fn describe(&self, removals: &[PendingRemoval]) -> Vec<String> {
        let fate = if self.options.delete_data { "goes" } else { "stays" };
        let line = |removals: &PendingRemoval| {
            let parts: Vec<String> =
                removals.data.objects.iter().map(|(part, count)| format!("{count} {part}")).collect();
            let parts = if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
            format!(
                "{}: the namespace goes; the data {fate} (objects: {parts}; {} bytes); {} without an outcome, {} of the cluster not settled",
                removals.business,
                removals.data.bytes,
                text::count(removals.data.unsettled, "input"),
                text::count(removals.jobs.total(), "Job"),
            )
        };
        removals.iter().map(line).collect()
    }

    /// A business is only removed when none of its work is pending.
    fn nothing_pending(&self, removals: &[PendingRemoval]) -> anyhow::Result<()> {
        if self.options.cancel {
            return Ok(());
        }
        for PendingRemoval { business, data: stock, jobs } in removals {
            if stock.unsettled + jobs.total() > 0 {
                let (inputs, jobs) = (text::count(stock.unsettled, "input"), text::count(jobs.total(), "Job"));
                return Err(data::pending(business, format!("{inputs} without an outcome, {jobs} not settled")).into());
            }
        }
        Ok(())
    }

    fn agree(&self, removals: &[&Business]) -> anyhow::Result<()> {
        if self.options.delete_data {
            for (bucket, businesses) in self.before.buckets() {
                let concerned = self.after.is_none() || businesses.iter().any(|of| removals.contains(of));
                if concerned && !self.options.yes_delete.iter().any(|agreed| agreed == bucket) {
                    confirm::delete(bucket)?;
                }
            }
        }
        if self.before.cloud == CloudKind::Google && !self.options.yes {
            confirm::yes(&format!("remove this from project {}?", self.before.project))?;
        }
        Ok(())
    }
}

/// Removes the rendered manifests of a business, or of all.
///
/// # Errors
/// When the folder cannot be removed.
pub(crate) fn forget_manifests(environment: &Environment, business: Option<&str>) -> anyhow::Result<()> {
    let mut folder = context::generated(environment).join("manifests");
    folder.extend(business);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
