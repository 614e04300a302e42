//! Taking businesses away: what `remove-business` and `teardown` share.
//!
//! Intake stops, Jobs settle (or are cancelled), the orchestrator goes after them, then what is in the cloud. At any
//! moment running again goes on.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::Context as _;
use common::storage::Store;
use kube::{Api, api::ListParams};
use provision::{
    Cloud, Environment, data,
    data::Stock,
    environment::{Auth, Business, CloudKind},
    guarded, keys, lock,
    plan::{Action, Change, Plan},
    presence, removal,
    resource::{Id, Kind},
    retire,
    retire::Unsettled,
    saved, show,
};
use serde::Serialize;

use crate::{agree, context, error::Failure, locking, output::Output, setup, text};

/// How long the deletion of a namespace may take.
const NAMESPACE: Duration = Duration::from_secs(300);
/// How long a call to Cloud Storage is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What else goes, and what is asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Cancel what runs, and go on although work waits
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
    /// Only show what would go and what would stay
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) lock: locking::LockArgs,
}

/// What is to be taken away: what `before` has and `after` has not.
pub(crate) struct Removal<'a> {
    pub(crate) before: &'a Environment,
    pub(crate) after: Option<&'a Environment>,
    pub(crate) cloud: &'a Cloud,
    pub(crate) options: &'a Options,
    pub(crate) lock: lock::Settings,
}

/// One business before it went.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Going {
    business: String,
    data: Stock,
    jobs: Unsettled,
}

/// What was done.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    plan: Plan,
    businesses: Vec<Going>,
    objects_deleted: usize,
    /// What is ours, should be gone and is not.
    pub(crate) left: Vec<String>,
}

impl Report {
    /// One line for a person.
    pub(crate) fn summary(&self) -> String {
        let there: usize = self.businesses.iter().map(|going| going.data.total()).sum();
        let stay = there.saturating_sub(self.objects_deleted);
        let left = if self.left.is_empty() { "nothing else of it is left" } else { "something is left" };
        format!("{} deleted, {stay} kept; {left}", text::count(self.objects_deleted, "object"))
    }
}

impl Removal<'_> {
    /// Takes it away; nothing with `--dry-run`.
    ///
    /// # Errors
    /// When work is pending, nobody agreed, or a step failed.
    pub(crate) async fn run(&self, output: &Output) -> anyhow::Result<Option<Report>> {
        let store = Store::connect_for(&self.cloud.connection(), PATIENCE).await?;
        let there = presence::has_cluster(self.before, self.cloud).await?;
        let looks = self.businesses().into_iter().map(|business| self.look(&store, business, there));
        let (plan, going) = tokio::try_join!(self.plan(output), futures::future::try_join_all(looks))?;
        if self.options.dry_run {
            self.show(&plan, &going, output)?;
            return Ok(None);
        }
        output.note(show::render(&plan, std::io::stderr().is_terminal()).trim_end());
        for line in self.describe(&going) {
            output.note(line);
        }
        setup::free_to_go(&plan)?;
        self.nothing_pending(&going)?;
        self.agree()?;

        let work = guarded::under_lock(self.before, self.cloud, &self.lock, None, async |step| {
            if !there {
                output.note("  there is no cluster; what was in it is gone with it");
            }
            step("waits for running Jobs");
            let retiring = self.businesses().into_iter().map(|business| self.retire(business, there, output));
            futures::future::try_join_all(retiring).await?;
            step("deletes");
            let objects_deleted = if self.options.delete_data { self.delete_data(&store).await? } else { 0 };
            // Looked at again: settling took its time.
            let now = self.plan(&output.only_errors()).await?;
            saved::beyond(&plan, &now)?;
            let (first, last) = self.bucket_last(now);
            Ok((objects_deleted, setup::carry_out(first, self.cloud, output).await?.plan, last))
        });
        let (objects_deleted, mut plan, last) = work.await?;
        // The lock went a moment ago, and its bucket goes after it. Cloud Storage deletes only what is empty: not a
        // bucket in which somebody else has the lock by now.
        plan.changes.extend(setup::carry_out(last, self.cloud, output).await?.plan.changes);
        let left = if self.after.is_none() { self.left().await? } else { Vec::new() };
        Ok(Some(Report { plan, businesses: going, objects_deleted, left }))
    }

    fn removal_options(&self) -> removal::Options {
        removal::Options { data: self.options.delete_data, identities: self.options.identities }
    }

    async fn plan(&self, output: &Output) -> anyhow::Result<Plan> {
        let progress = setup::progress(output);
        provision::look_to_remove(self.before, self.after, self.cloud, self.removal_options(), &progress).await
    }

    /// A plan without, and only with, the deletion of the bucket that holds the lock.
    fn bucket_last(&self, plan: Plan) -> (Plan, Plan) {
        let bucket = Id::new(Kind::Bucket, self.before.bucket.as_str());
        let is_last = |change: &Change| change.id == bucket && change.action == Action::Delete;
        let (last, first) = plan.changes.iter().cloned().partition(is_last);
        (Plan { changes: first, ..plan.clone() }, Plan { changes: last, ..plan })
    }

    /// The businesses that go.
    fn businesses(&self) -> Vec<&Business> {
        let stays = |name: &str| self.after.is_some_and(|after| after.business(name).is_some());
        self.before.businesses.iter().filter(|business| !stays(&business.name)).collect()
    }

    async fn look(&self, store: &Store, business: &Business, there: bool) -> anyhow::Result<Going> {
        let data = data::stock(store, business).await?;
        let jobs = match there {
            true => retire::unsettled(self.cloud.cluster()?, &business.namespace).await?,
            false => Unsettled::default(),
        };
        Ok(Going { business: business.name.clone(), data, jobs })
    }

    fn show(&self, plan: &Plan, going: &[Going], output: &Output) -> anyhow::Result<()> {
        if output.json {
            return output.document(&serde_json::json!({"plan": plan, "businesses": going}));
        }
        output.line(show::render(plan, std::io::stdout().is_terminal()).trim_end())?;
        for line in self.describe(going) {
            output.line(line)?;
        }
        Ok(())
    }

    /// What goes and what stays of each business.
    fn describe(&self, going: &[Going]) -> Vec<String> {
        let fate = if self.options.delete_data { "goes" } else { "stays" };
        let line = |going: &Going| {
            let parts: Vec<String> = going.data.objects.iter().map(|(part, count)| format!("{count} {part}")).collect();
            let parts = if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
            format!(
                "{}: the namespace goes; the data {fate} (objects: {parts}; {} bytes); {} without an outcome, {} of the cluster not settled",
                going.business,
                going.data.bytes,
                text::count(going.data.unsettled, "input"),
                text::count(going.jobs.total(), "Job"),
            )
        };
        going.iter().map(line).collect()
    }

    /// A business is only removed when nothing of it is under way; a teardown waits for what runs, and what waits in
    /// the bucket stays there.
    fn nothing_pending(&self, going: &[Going]) -> anyhow::Result<()> {
        if self.options.cancel {
            return Ok(());
        }
        for Going { business, data, jobs } in going {
            let why = match self.after {
                Some(_) if data.unsettled + jobs.total() > 0 => {
                    format!(
                        "{} without an outcome, {} not settled",
                        text::count(data.unsettled, "input"),
                        text::count(jobs.total(), "Job")
                    )
                }
                None if self.options.delete_data && data.unsettled > jobs.total() => {
                    format!(
                        "{} would be deleted without an outcome",
                        text::count(data.unsettled - jobs.total(), "input")
                    )
                }
                _ => continue,
            };
            return Err(pending(business).why(why).into());
        }
        Ok(())
    }

    fn agree(&self) -> anyhow::Result<()> {
        if self.options.delete_data {
            for (bucket, businesses) in self.before.buckets() {
                let concerned = self.after.is_none() || businesses.iter().any(|of| self.businesses().contains(of));
                if concerned && !self.options.yes_delete.iter().any(|agreed| agreed == bucket) {
                    agree::to_delete(bucket)?;
                }
            }
        }
        if self.before.cloud == CloudKind::Google && !self.options.yes {
            agree::to(&format!("take this away from project {}?", self.before.project))?;
        }
        Ok(())
    }

    /// Takes a business out of the cluster, its orchestrator last.
    async fn retire(&self, business: &Business, there: bool, output: &Output) -> anyhow::Result<()> {
        if there {
            self.stop(business, output).await?;
        }
        let held = match self.options.cancel {
            true => 0,
            false => data::held_messages(self.cloud, &self.before.project, business).await?,
        };
        if held > 0 {
            return Err(pending(&business.name)
                .why(format!(
                    "{} with the input in themselves were not taken; its intake is stopped now",
                    text::count(held, "message")
                ))
                .into());
        }
        if there && self.before.auth == Auth::Key {
            // Its Secrets know which keys are ours, and nothing is in hand any more.
            keys::revoke(self.before, business, self.cloud, self.cloud.cluster()?).await?;
        }
        if there && retire::delete_namespace(self.cloud.cluster()?, &business.namespace, NAMESPACE).await? {
            output.note(format_args!("  the namespace {} is gone", business.namespace));
        }
        Ok(())
    }

    /// Stops the intake of a business and waits until its Jobs are settled.
    async fn stop(&self, business: &Business, output: &Output) -> anyhow::Result<()> {
        let Business { name, namespace, .. } = business;
        let client = self.cloud.cluster()?;
        let stopped = retire::stop_intake(client, namespace, name, setup::ROLLOUT).await;
        let stopped = match stopped {
            // An orchestrator that cannot run has nothing in hand, and without Jobs there is nothing to settle.
            Err(error) if retire::unsettled(client, namespace).await?.total() == 0 => {
                output.warn(format_args!("{error:#}; it is removed as it is, since no Job waits for it"));
                false
            }
            stopped => stopped?,
        };
        if stopped {
            output.note(format_args!("  {name} takes no more messages"));
        }
        if self.options.cancel {
            retire::cancel(client, namespace).await?;
        }
        if stopped {
            let limit = Duration::from_secs(self.options.wait);
            retire::settle(client, namespace, limit).await?;
            output.note(format_args!("  every Job of {name} is settled"));
        }
        Ok(())
    }

    async fn delete_data(&self, store: &Store) -> anyhow::Result<usize> {
        let mut deleted = 0;
        for business in self.businesses() {
            deleted += data::delete(store, &business.bucket, &format!("{}/", business.name)).await?;
        }
        if self.after.is_none() {
            for (bucket, _) in self.before.buckets() {
                deleted += data::delete(store, bucket, "").await?;
            }
        }
        Ok(deleted)
    }

    /// What is still there of the environment.
    async fn left(&self) -> anyhow::Result<Vec<String>> {
        let mut left: Vec<String> = provision::left(self.before, self.cloud, self.removal_options())
            .await?
            .iter()
            .map(ToString::to_string)
            .collect();
        if !presence::has_cluster(self.before, self.cloud).await? {
            return Ok(left);
        }
        let ours = format!("app.kubernetes.io/managed-by=deskgrid,deskgrid.dev/environment={}", self.before.name);
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.cloud.cluster()?.clone());
        let list = namespaces.list(&ListParams::default().labels(&ours)).await.context("list the namespaces")?;
        left.extend(list.items.into_iter().filter_map(|found| Some(format!("namespace {}", found.metadata.name?))));
        Ok(left)
    }
}

fn pending(business: &str) -> Failure {
    Failure::new("pending", format!("work of {business} is pending"))
        .next("wait until it is done (`cargo xtask status`), or cancel it with --cancel")
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
