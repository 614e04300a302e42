//! Nodes, Pods, capacity and quotas.

use contract::pool_report::{Engine, Load, Report};
use inspect::text;
use serde::Serialize;
use web::Problem;

use super::rows::PodRow;
use crate::{
    charts::{self, Rect},
    nodes::NodeLine,
    page::Shown,
    page_request::PageRequest,
    raw::Quota,
};

/// Pods shown of each business.
const PODS: usize = 100;

#[derive(Serialize)]
struct NodeRow {
    node: NodeLine,
    cpu: Use,
    memory: Use,
    pods: usize,
}

#[derive(Serialize)]
struct Use {
    text: String,
    shares: Vec<Rect>,
}

#[derive(Serialize)]
struct Space {
    business: String,
    namespace: String,
    pods: Vec<PodRow>,
    left_out: usize,
    ended: usize,
    quotas: Vec<Quota>,
    engine: Vec<(&'static str, String)>,
    pool: Option<Pool>,
}

/// The pool of a business, as its orchestrators report it.
#[derive(Serialize)]
struct Pool {
    waiting: usize,
    rate: String,
    item_time: String,
    engines: Vec<Engine>,
}

fn pool(reports: &[Report]) -> Option<Pool> {
    let load = Load::new(reports)?;
    Some(Pool {
        waiting: load.waiting,
        rate: format!("{:.1}", load.items_per_second),
        item_time: load.item_seconds.map(|mean| format!("{:.1} ms", mean * 1000.0)).unwrap_or_default(),
        engines: reports.iter().flat_map(|report| report.engines.clone()).collect(),
    })
}

#[derive(Serialize)]
struct Nodes {
    rows: Vec<NodeRow>,
    error: String,
    /// Only the Pods of businesses that the visitor may see are counted.
    is_partial: bool,
}

/// The page.
pub(super) fn show(request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let views = request.state.views(request.visitor, request.query.get("business"))?;
    let nodes = request.state.nodes();
    let is_running = |state: &str| !matches!(state, "Succeeded" | "Failed" | "Error" | "OOMKilled" | "Completed");
    let all = || views.iter().flat_map(|view| view.pods.values()).filter(|pod| is_running(&pod.view.state));
    let rows = nodes.lines.iter().map(|node| {
        let on = || all().filter(|pod| pod.view.node.as_deref() == Some(&node.name));
        let (cpu, memory) = (on().map(|pod| pod.cpu_millis).sum(), on().map(|pod| pod.memory_bytes).sum());
        let cores = |millis: u64| format!("{:.1}", millis as f64 / 1000.0);
        NodeRow {
            cpu: used(cpu, node.cpu_millis, cores(cpu), format!("{} cores", cores(node.cpu_millis))),
            memory: used(memory, node.memory_bytes, text::bytes(memory), text::bytes(node.memory_bytes)),
            pods: on().count(),
            node: node.clone(),
        }
    });
    let nodes = Nodes {
        rows: rows.collect(),
        error: nodes.error.clone().unwrap_or_default(),
        is_partial: views.len() < request.state.followed.len(),
    };
    let spaces: Vec<Space> = views
        .iter()
        .map(|view| {
            let (running, ended): (Vec<_>, Vec<_>) = view.pods.values().partition(|pod| is_running(&pod.view.state));
            let engine = &view.business.engine;
            Space {
                business: view.business.name.clone(),
                namespace: view.business.namespace.clone(),
                left_out: running.len().saturating_sub(PODS),
                ended: ended.len(),
                pods: running
                    .into_iter()
                    .take(PODS)
                    .map(|pod| PodRow { app: pod.app.clone(), ..PodRow::from(&pod.view) })
                    .collect(),
                quotas: view.quotas.clone(),
                pool: pool(&view.pool),
                engine: vec![
                    ("CPU", engine.cpu.clone()),
                    ("Memory", engine.memory.clone()),
                    ("Retries", engine.retries.to_string()),
                    ("Time limit", format!("{} s", engine.timeout_secs)),
                    ("Spot nodes", if engine.spot { "yes".to_owned() } else { "no".to_owned() }),
                    ("Kueue queue", view.business.queue.clone().unwrap_or_else(|| "none".to_owned())),
                ],
            }
        })
        .collect();
    let parts = vec![request.part("nodes", "cluster.html", &nodes)?, request.part("spaces", "quotas.html", &spaces)?];
    Ok(Shown { title: "Cluster".into(), crumbs: Vec::new(), parts })
}

fn used(amount: u64, of: u64, amount_text: String, of_text: String) -> Use {
    let free = usize::try_from(of.saturating_sub(amount)).unwrap_or(usize::MAX);
    let amount = usize::try_from(amount).unwrap_or(usize::MAX);
    Use { text: format!("{amount_text} of {of_text}"), shares: charts::shares(&[(amount, "running"), (free, "empty")]) }
}
