//! The program behind `cargo xtask bench`: how fast the queue and the kernel are on this machine, each figure beside
//! its yardstick in the same run.
//!
//! It builds the services with the profile that it was built with itself, and measures those.

mod creation;
mod engine_start;
mod flow;
mod kernel;
mod kills;
mod latency;
mod load;
mod machine;
mod memory;
mod orchestrator_start;
mod packs;
mod pool;
mod python;
mod report;
mod script;
mod setup;
mod target;

use std::{process::ExitCode, time::Instant};

use clap::{Parser, ValueEnum as _};
use cli::{Context, error::Failure, output::Output};
use cloud::shutdown;
use contract::exit;
use report::{Report, Row};
use target::Target;
use xtask::{
    Globals,
    bench::{Options, Part},
    binaries::Binaries,
    stage::{Stage, leftovers},
};

/// The environment that is measured.
///
/// The Jobs of `wide` wait in a Kueue queue that nobody serves, so they are created and never run: what creating costs,
/// without what running costs. Those of `flow` run, as many at once as the node takes. Those of `small` compute
/// packs, and so do the engines of [`POOL`]. There are no web apps: a monitor follows what the queue makes, and would
/// be measured with it.
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
[businesses.small.engine]
cpu = \"500m\"
memory = \"256Mi\"
disk = \"64Mi\"
";

/// A pool, which is also measured on a cloud that is far away.
const POOL: &str = "\
[businesses.pool]
dispatch = \"pool\"
[businesses.pool.pool]
min = 2
max = 2
slots = 1
[businesses.pool.engine]
cpu = \"500m\"
memory = \"256Mi\"
disk = \"64Mi\"
";

/// Measure the queue and the kernel on this machine, each figure beside its yardstick.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Print results as JSON on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// No messages and no progress on standard error, only errors
    #[arg(long, short, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on standard error
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    let Arguments { options, json, quiet, verbose } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::usage(&error),
    };
    let globals = cli::Globals { context: None, json, quiet, verbose };
    let output = Output::new(&globals);
    cli::output::start_logging(&globals);
    cli::start(&output, xtask::error::explain, || run(&options, &output))
}

/// Measures, and prints a table. It removes what it made, also when a measurement fails or a signal arrives.
async fn run(options: &Options, output: &Output) -> anyhow::Result<u8> {
    let stop = shutdown::on_signal()?;
    let measured = tokio::select! {
        measured = measure(options, output) => measured,
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

async fn measure(options: &Options, output: &Output) -> anyhow::Result<Report> {
    let binaries = match machine::IS_OPTIMIZED {
        true => Binaries::build_optimized(output).await?,
        false => Binaries::build(output).await?,
    };
    // It serves the laptop cloud.
    xtask::remember_program(binaries.path("xtask")?.clone());
    let started = Instant::now();
    let is_selected = |part: Part| options.only.is_empty() || options.only.contains(&part);
    let mut rows: Vec<Row> = Vec::new();
    if is_selected(Part::Kernel) {
        output.note("pricing with the kernel, and with QuantLib where Python has it");
        rows.extend(kernel::measure(binaries.path("engine")?, options.quick).await?);
    }
    if is_selected(Part::EngineStart) {
        output.note("starting engines");
        rows.push(engine_start::measure(binaries.path("engine")?, options.quick).await?);
    }
    if Part::value_variants().iter().copied().any(|part| needs_cloud(part) && is_selected(part)) {
        let python = is_selected(Part::Python).then(python::business).transpose().unwrap_or_else(|why| {
            output.note(format_args!("calls of Python functions are not measured: {why:#}"));
            None
        });
        let is_selected = |part: Part| is_selected(part) && (part != Part::Python || python.is_some());
        let mut stage = Stage::make("bench", &format!("{ENVIRONMENT}{POOL}{}", python.as_deref().unwrap_or_default()))?;
        let measured = on_stage(&mut stage, options, &binaries, output, &is_selected).await;
        remove(stage, output)?;
        rows.extend(measured?);
        if is_selected(Part::Pool) {
            let head = ENVIRONMENT.split("[businesses").next().unwrap_or_default();
            let far = format!("{head}{}", POOL.replace("businesses.pool", "businesses.far"));
            let mut stage = Stage::make("bench-far", &far)?;
            let measured = far_pool(&mut stage, options, &binaries, output).await;
            remove(stage, output)?;
            rows.extend(measured?);
        }
    }
    Ok(Report { machine: machine::describe(), quick: options.quick, seconds: started.elapsed().as_secs_f64(), rows })
}

fn remove(stage: Stage, output: &Output) -> anyhow::Result<()> {
    let left = stage.remove()?;
    if !left.is_empty() {
        output.warn(leftovers::describe(&left));
    }
    Ok(())
}

/// The pool on a cloud whose calls take long and whose bucket takes few writes.
async fn far_pool(
    stage: &mut Stage,
    options: &Options,
    binaries: &Binaries,
    output: &Output,
) -> anyhow::Result<Vec<Row>> {
    output.note("running small items in a pool on a cloud that is far away");
    stage.start_cloud(true, true)?;
    setup::measure(stage.environment(), false, output).await?;
    pool::measure_far(&deploy(stage, binaries, output).await?, options.quick).await
}

async fn deploy(stage: &Stage, binaries: &Binaries, output: &Output) -> anyhow::Result<Context> {
    let cloud = xtask::setup::connect(stage.environment(), &Globals::default()).await?;
    let images = xtask::setup::images(stage.environment(), binaries)?;
    let quiet = output.errors_only();
    xtask::setup::deploy(stage.environment(), &cloud, images, provision::deploy::Foreign::Refuse, &quiet).await?;
    stage.context().await
}

async fn on_stage(
    stage: &mut Stage,
    options: &Options,
    binaries: &Binaries,
    output: &Output,
    is_selected: &impl Fn(Part) -> bool,
) -> anyhow::Result<Vec<Row>> {
    output.note("starting and provisioning a laptop cloud");
    stage.start_cloud(true, false)?;
    if is_selected(Part::Python) {
        python::register(stage)?;
    }
    let mut rows = setup::measure(stage.environment(), is_selected(Part::Setup), output).await?;
    if !is_selected(Part::Setup) {
        rows.clear();
    }
    // The other parts need running services; this one does not.
    if !Part::value_variants().iter().copied().any(|part| needs_cloud(part) && part != Part::Setup && is_selected(part))
    {
        return Ok(rows);
    }
    let context = deploy(stage, binaries, output).await?;
    let wide = context.business(Some("wide"))?;
    if is_selected(Part::OrchestratorStart) {
        output.note("starting orchestrators");
        let program = binaries.path("orchestrator")?;
        rows.push(orchestrator_start::measure(&context, stage.environment(), wide, program, options.quick).await?);
    }
    let mut laptop = Target::laptop(&context, wide)?;
    if is_selected(Part::Latency) {
        output.note("publishing 50 messages a second");
        rows.push(latency::measure(&context, &mut laptop, options.quick).await?);
    }
    if is_selected(Part::Flow) {
        output.note("running one Job per message, and bare Jobs");
        rows.extend(flow::measure(&context, options.quick).await?);
    }
    if is_selected(Part::Packs) {
        output.note("running the small items of a pack");
        rows.extend(packs::measure(&context, options.quick).await?);
    }
    if is_selected(Part::Pool) {
        output.note("running small items in a pool, and with Ray and Dask where Python has them");
        rows.extend(pool::measure(&context, options.quick).await?);
    }
    if is_selected(Part::Kills) {
        output.note("killing engines and orchestrators of a pool, and workers of Ray and Dask where Python has them");
        rows.extend(kills::measure(&context, options.quick, output).await?);
    }
    if is_selected(Part::Python) {
        output.note("calling Python functions, and with Ray and Dask where Python has them");
        rows.extend(python::measure(stage, binaries, output).await?);
    }
    rows.extend(creation_and_memory(&context, &mut laptop, options, output, is_selected).await?);
    if let Some(name) = &options.context {
        output.note(format_args!("the same on the API server of {name}"));
        let program = binaries.path("orchestrator")?;
        let mut real = Target::real(&context, stage.environment(), wide, name, program).await?;
        let measured = async {
            let mut rows = Vec::new();
            if is_selected(Part::Latency) {
                rows.push(latency::measure(&context, &mut real, options.quick).await?);
            }
            rows.extend(creation_and_memory(&context, &mut real, options, output, is_selected).await?);
            anyhow::Ok(rows)
        };
        let measured = measured.await;
        real.remove_namespaces().await?;
        rows.extend(measured?);
    }
    Ok(rows)
}

/// Creation and memory: the orchestrator's memory is read with the created Jobs in its namespace.
async fn creation_and_memory(
    context: &Context,
    target: &mut Target,
    options: &Options,
    output: &Output,
    is_selected: &impl Fn(Part) -> bool,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if is_selected(Part::Creation) || is_selected(Part::Memory) {
        output.note("creating Jobs from a backlog, and bare ones");
        let created = creation::measure(context, target, options.quick).await?;
        if is_selected(Part::Creation) {
            rows.push(created.row);
        }
        if is_selected(Part::Memory) {
            rows.push(memory::measure(target, created.jobs)?);
        }
    }
    Ok(rows)
}

fn needs_cloud(part: Part) -> bool {
    !matches!(part, Part::Kernel | Part::EngineStart)
}
