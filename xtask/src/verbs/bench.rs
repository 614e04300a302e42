//! `bench`: how fast the queue and the kernel are on this machine, each beside its yardstick in the same run.

mod batch;
mod creation;
mod engine_start;
mod flow;
mod kernel;
mod latency;
mod load;
mod machine;
mod memory;
mod optimized;
mod orchestrator_start;
mod place;
mod report;
mod script;
mod setting_up;

use std::time::Instant;

use cli::{Context, error::Failure, output::Output};
use cloud::shutdown;
use contract::exit;
use place::Place;
use report::{Report, Row};

use crate::{
    args::Globals,
    binaries::Binaries,
    setup,
    stage::{Stage, leftovers},
};

/// The environment that is measured.
///
/// The Jobs of `wide` wait in a Kueue queue that nobody serves, so they are created and never run: what creating costs,
/// without what running costs. Those of `flow` run, as many at once as the node takes. Those of `small` are dispatched in
/// batches. There are no web apps: a monitor follows what the queue makes, and would be measured with it.
const ENVIRONMENT: &str = "\
project = \"bench-desk\"
location = \"europe-west1\"
cloud = \"local\"

[web]
enabled = false

[businesses.wide]
max_active_jobs = 10000
queue = \"bench\"

[businesses.flow]
max_active_jobs = 500
[businesses.flow.engine]
cpu = \"100m\"
memory = \"64Mi\"
disk = \"64Mi\"

[businesses.small]
max_active_jobs = 4
dispatch = \"batch\"
[businesses.small.engine]
cpu = \"500m\"
memory = \"256Mi\"
disk = \"64Mi\"
";

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Smaller loads: under two minutes after the build
    #[arg(long)]
    quick: bool,
    /// Measure the programs that the demo runs, which are not optimised but built already
    #[arg(long)]
    dev: bool,
    /// Measure the programs beside this one, as they are
    #[arg(long, hide = true, conflicts_with = "dev")]
    as_built: bool,
    /// Measure latency, creation and memory also on the API server of this context of your kubeconfig, in namespaces of
    /// their own that are taken away afterwards; Pub/Sub, storage and the orchestrator stay on this machine
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Only these measurements
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
}

/// A group of rows that is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The Monte Carlo kernel beside QuantLib, and over cores.
    Kernel,
    /// From the start of an engine to its first request for data.
    EngineStart,
    /// From the start of an orchestrator to its readiness.
    OrchestratorStart,
    /// `provision` from nothing, and `plan` with nothing to do.
    #[value(alias = "provision")]
    Setup,
    /// From a published message to its Kubernetes Job.
    Latency,
    /// Jobs created from a backlog, beside bare creates.
    Creation,
    /// The orchestrator's memory with those Jobs in its namespace.
    Memory,
    /// Jobs from message to outcome, beside bare Jobs.
    Flow,
    /// Many small inputs in batches.
    Batch,
}

impl Part {
    const ALL: [Self; 9] = [
        Self::Kernel,
        Self::EngineStart,
        Self::OrchestratorStart,
        Self::Setup,
        Self::Latency,
        Self::Creation,
        Self::Memory,
        Self::Flow,
        Self::Batch,
    ];

    fn needs_cloud(self) -> bool {
        !matches!(self, Self::Kernel | Self::EngineStart)
    }
}

/// Measures, and shows a table.
///
/// # Errors
/// When something cannot be measured, or it is interrupted; nothing is left in any case.
pub(crate) async fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    let stop = shutdown::on_signal()?;
    if !args.dev && !args.as_built {
        return optimized::run(args, &stop, output).await;
    }
    let measured = tokio::select! {
        measured = measure(args, output) => measured,
        () = stop.cancelled() => Err(Failure::new("interrupted", "the bench was interrupted")
            .why("it received a signal; everything it had started is stopped and removed")
            .next("cargo xtask bench")
            .into()),
    };
    let report = measured?;
    if output.json {
        output.document(&report)?;
    } else {
        output.write(report.table().as_bytes())?;
    }
    Ok(exit::DONE)
}

async fn measure(args: &Args, output: &Output) -> anyhow::Result<Report> {
    let binaries = match args.as_built {
        true => Binaries::beside()?,
        false => Binaries::build(output).await?,
    };
    let started = Instant::now();
    let wanted = |part: Part| args.only.is_empty() || args.only.contains(&part);
    let mut rows: Vec<Row> = Vec::new();
    if wanted(Part::Kernel) {
        output.note("pricing with the kernel, and with QuantLib where Python has it");
        rows.extend(kernel::measure(binaries.path("engine")?, args.quick).await?);
    }
    if wanted(Part::EngineStart) {
        output.note("starting engines");
        rows.push(engine_start::measure(binaries.path("engine")?, args.quick).await?);
    }
    if Part::ALL.into_iter().any(|part| part.needs_cloud() && wanted(part)) {
        let mut stage = Stage::make("bench", ENVIRONMENT)?;
        let measured = on_stage(&mut stage, args, &binaries, output, &wanted).await;
        let left = stage.strike()?;
        rows.extend(measured?);
        if !left.is_empty() {
            output.warn(leftovers::describe(&left));
        }
    }
    Ok(Report { machine: machine::describe(), quick: args.quick, seconds: started.elapsed().as_secs_f64(), rows })
}

async fn on_stage(
    stage: &mut Stage,
    args: &Args,
    binaries: &Binaries,
    output: &Output,
    wanted: &impl Fn(Part) -> bool,
) -> anyhow::Result<Vec<Row>> {
    output.note("starting and provisioning a laptop cloud");
    stage.start_cloud(true)?;
    let mut rows = setting_up::measure(stage.environment(), wanted(Part::Setup), output).await?;
    if !wanted(Part::Setup) {
        rows.clear();
    }
    // Nothing of the rest is wanted: nothing has to run.
    if !Part::ALL.into_iter().any(|part| part.needs_cloud() && part != Part::Setup && wanted(part)) {
        return Ok(rows);
    }
    let cloud = setup::connect(stage.environment(), &Globals::default()).await?;
    let images = setup::images(stage.environment(), binaries)?;
    let quiet = output.errors_only();
    setup::deploy(stage.environment(), &cloud, images, provision::deploy::Foreign::Refuse, &quiet).await?;
    let context: Context = stage.context().await?;
    let wide = context.business(Some("wide"))?;
    if wanted(Part::OrchestratorStart) {
        output.note("starting orchestrators");
        let program = binaries.path("orchestrator")?;
        rows.push(orchestrator_start::measure(&context, stage.environment(), wide, program, args.quick).await?);
    }
    let mut laptop = Place::laptop(&context, wide)?;
    if wanted(Part::Latency) {
        output.note("publishing 50 messages a second");
        rows.push(latency::measure(&context, &mut laptop, args.quick).await?);
    }
    if wanted(Part::Flow) {
        output.note("running one Job per message, and bare Jobs");
        rows.extend(flow::measure(&context, args.quick).await?);
    }
    if wanted(Part::Batch) {
        output.note("running small tasks in batches");
        rows.push(batch::measure(&context, args.quick).await?);
    }
    rows.extend(creating(&context, &mut laptop, args, output, wanted).await?);
    if let Some(name) = &args.context {
        output.note(format_args!("the same on the API server of {name}"));
        let program = binaries.path("orchestrator")?;
        let mut real = Place::real(&context, stage.environment(), wide, name, program).await?;
        let measured = async {
            let mut rows = Vec::new();
            if wanted(Part::Latency) {
                rows.push(latency::measure(&context, &mut real, args.quick).await?);
            }
            rows.extend(creating(&context, &mut real, args, output, wanted).await?);
            anyhow::Ok(rows)
        };
        let measured = measured.await;
        real.clear().await?;
        rows.extend(measured?);
    }
    Ok(rows)
}

/// Creation and memory, which belong together.
async fn creating(
    context: &Context,
    place: &mut Place,
    args: &Args,
    output: &Output,
    wanted: &impl Fn(Part) -> bool,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if wanted(Part::Creation) || wanted(Part::Memory) {
        output.note("creating Jobs from a backlog, and bare ones");
        let created = creation::measure(context, place, args.quick).await?;
        if wanted(Part::Creation) {
            rows.push(created.row);
        }
        if wanted(Part::Memory) {
            rows.push(memory::measure(place, created.jobs)?);
        }
    }
    Ok(rows)
}
